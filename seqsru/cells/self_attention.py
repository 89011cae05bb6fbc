"""The self-attention inside SRU++: a projection, what it sees, and the keys and values it keeps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells.history import extend, latest
from seqsru.ops import linear, recorded, transformed
from seqsru.ops.products import keeps_rows_apart, product

Sight = Literal["causal", "full"]
Normalize = Literal["after", "before", "none"]
# Of a causal attention: keys and values (B, M, 2·P) of the steps before, newest last, and how many of them
# there are (B,). Of any other: nothing.
Past = tuple[Tensor, ...]

# Queries that are compared with their keys at once: a causal step sees a band of keys, so that long sequences
# are worked through in blocks.
BLOCK = 128
# Where a row's bits are to depend on no other row, queries and keys are padded to a multiple of so many:
# products of other numbers of steps go to other routines. More than BLOCK keys a product may sum otherwise.
STEP = 16


class SelfAttention(nn.Module):
    """Equations (2) to (5) of `seqsru.cells.srupp.SRUppCell`.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    size : int
        P, features of queries, keys and values.
    num_heads : int
        Heads; 0 is no attention at all, only the projection and its LayerNorm.
    reach : int
        M, earlier steps that a step sees; 0 is full attention.
    normalize : {"after", "before", "none"}
        Where the LayerNorm stands.
    dropout : float
        Probability that a step is not seen by another.
    """

    def __init__(
        self,
        input_size: int,
        size: int,
        num_heads: int,
        reach: int,
        normalize: Normalize,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.reach = reach if num_heads else 0
        self.normalize = normalize
        self.dropout = dropout
        self.project = nn.Parameter(torch.empty(size, input_size))
        self.key_value = nn.Parameter(torch.empty(2 * size, size)) if num_heads else None
        self.alpha = nn.Parameter(torch.empty(1)) if num_heads else None
        self.norm = None if normalize == "none" else nn.LayerNorm(size)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as `SRUppCell` says."""
        for matrix in (self.project, self.key_value):
            if matrix is not None:
                bound = math.sqrt(6.0 / sum(matrix.shape))
                matrix.uniform_(-bound, bound)
        if self.alpha is not None:
            self.alpha.zero_()
        if self.norm is not None:
            self.norm.reset_parameters()

    def initial_past(self, batch: int) -> Past:
        """Return room for the keys and values of earlier steps, and that there are none."""
        if not self.reach:
            return ()
        return (
            self.project.new_zeros(batch, self.reach, 2 * self.project.shape[0]),
            self.project.new_zeros(batch, dtype=torch.int64),
        )

    def forward(self, x: Tensor, past: Past, valid: Tensor | None) -> tuple[Tensor, Past]:
        """Return o (T, B, P) for x (T, B, I), which is finite at invalid steps, and the past after it."""
        z = linear(x, self.project)  # (T, B, P)
        q = z if self.norm is None or self.normalize == "after" else self.norm(z)
        if self.key_value is None or self.alpha is None:
            return q if self.norm is None or self.normalize == "before" else self.norm(z), past
        key_value = linear(q, self.key_value)  # (T, B, 2·P)
        if self.reach:
            kept, count = past
            extended = extend(kept, key_value)  # (M + T, B, 2·P)
            seen = self._causal(q, extended, count, valid is None)
            steps = x.shape[0] if valid is None else valid.sum(0)
            past = latest(extended, kept, valid), (count + steps).clamp(max=self.reach)
        else:
            seen = self._full(q, key_value, valid)
        o = z + self.alpha * seen
        return self.norm(o) if self.norm is not None and self.normalize == "after" else o, past

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def _causal(self, q: Tensor, extended: Tensor, count: Tensor, all_valid: bool) -> Tensor:
        """Attend from q (T, B, P) to each step's own and the M before it in extended (M + T, B, 2·P)."""
        T, M = q.shape[0], self.reach
        if recorded():  # one node for any number of steps
            return self._band(q, extended, count, 0)
        outputs = []
        alone = T == 1 and all_valid  # a step of a stream, which is to be fast: it has no longer neighbours
        for start in range(0, T, BLOCK):
            here = min(BLOCK, T - start)
            size = here if alone else -(-here // STEP) * STEP
            keys = extended[start : start + here + M]
            found = self._band(_pad(q[start : start + here], size), _pad(keys, size + M), count, start)
            outputs.append(found[:here])
        # Of no steps too, all that is read has gradients.
        return torch.cat(outputs) if outputs else q + extended.sum()

    def _band(self, q: Tensor, key_value: Tensor, count: Tensor, start: int) -> Tensor:
        """Attend from n steps of q, the first of them step `start`, to the M + n of key_value."""
        row = torch.arange(q.shape[0], device=q.device).unsqueeze(1)  # (n, 1)
        column = torch.arange(key_value.shape[0], device=q.device)  # (M + n,)
        band = (column >= row) & (column <= row + self.reach)  # (n, M + n)
        filled = column + start >= (self.reach - count).unsqueeze(1)  # (B, M + n)
        return self._attend(q, key_value, band & filled.unsqueeze(1))

    def _full(self, q: Tensor, key_value: Tensor, valid: Tensor | None) -> Tensor:
        """Attend from every step to every valid one; a row without any sees its first."""
        if q.shape[0] == 0:
            return q
        mask = None
        if valid is not None:
            first = torch.arange(q.shape[0], device=q.device) == 0
            mask = (valid.t() | first).unsqueeze(1)  # (B, 1, T)
        if not self._keeps_rows_apart(q, key_value):
            return self._attend(q, key_value, mask)
        if mask is None:
            mask = torch.ones(1, 1, q.shape[0], dtype=torch.bool, device=q.device)
        outputs = []
        for start in range(0, q.shape[0], BLOCK):
            here = min(BLOCK, q.shape[0] - start)
            part = _pad(q[start : start + here], -(-here // STEP) * STEP)
            outputs.append(self._attend(part, key_value, mask)[:here])
        return torch.cat(outputs)

    def _keeps_rows_apart(self, q: Tensor, key_value: Tensor) -> bool:
        return not (self.training and self.dropout) and keeps_rows_apart(q, key_value)

    def _attend(self, q: Tensor, key_value: Tensor, mask: Tensor | None) -> Tensor:
        """Return the values (T, B, P) that q (T, B, P) finds in key_value (S, B, 2·P)."""
        k, v = key_value.chunk(2, dim=-1)
        by_head = self.num_heads, q.shape[-1] // self.num_heads
        q, k, v = (t.view(*t.shape[:2], *by_head).permute(1, 2, 0, 3) for t in (q, k, v))
        if transformed():  # torch's own attention has no derivative taken forward
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            if mask is not None:
                scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
            weights = functional.dropout(torch.softmax(scores, -1), self.dropout, self.training)
            return (weights @ v).permute(2, 0, 1, 3).flatten(2)
        if mask is not None and q.shape[2] > 1 and self._keeps_rows_apart(q, key_value):
            return _in_blocks(q, k, v, mask.unsqueeze(1)).permute(2, 0, 1, 3).flatten(2)
        found = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if mask is None else mask.unsqueeze(1),  # (B, heads, T, ·)
            dropout_p=self.dropout if self.training else 0.0,
        )
        return found.permute(2, 0, 1, 3).flatten(2)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attend from q (B, heads, n, d) to k and v (B, heads, S, d), BLOCK keys at a time.

    Keys that the mask (B or 1, 1, n or 1, S) hides, and blocks of them, add zeros: what a row finds has the
    same bits with and without them.
    """
    shape, missing = q.shape, -k.shape[2] % STEP
    k, v = (functional.pad(t, (0, 0, 0, missing)) for t in (k, v))
    mask = functional.pad(mask, (0, missing))
    q = (q / math.sqrt(shape[-1])).flatten(0, 1)  # (B * heads, n, d)
    keys, values = (torch.split(t.flatten(0, 1), BLOCK, dim=1) for t in (k, v))
    scores = torch.cat([product(q, part.transpose(1, 2).contiguous()) for part in keys], -1)
    scores = scores.view(*shape[:3], -1).masked_fill(~mask, -math.inf)
    weights = torch.split(torch.softmax(scores, -1).flatten(0, 1), BLOCK, dim=-1)
    found = product(weights[0].contiguous(), values[0].contiguous())
    for share, part in zip(weights[1:], values[1:]):
        found = found + product(share.contiguous(), part.contiguous())
    return found.view(shape)


def _pad(x: Tensor, steps: int) -> Tensor:
    """Return x (T, B, ·) with steps of 0 after its own, so that there are so many."""
    return functional.pad(x, (0, 0, 0, 0, 0, steps - x.shape[0]))
