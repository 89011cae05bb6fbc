"""A reader of NVIDIA's machine code: what of it says when a load is waited for.

An instruction of every GPU from Volta on is 128 bits. Its opcode is in bits 0–11 of the first word and its
predicate in bits 12–15. Of the second word, bits 46–48 name the scoreboard that the instruction sets when it
has its result (7: none; only what takes a varying time sets one), and bits 52–57 are the mask of those that
it waits for before it starts. There are six. A scoreboard counts: it is waited for until **all** that set it
are done, so a load may be waited for where nobody reads its result.
"""

from __future__ import annotations

import heapq
import struct
from typing import NamedTuple

# The near call is a branch here, as ptxas uses it for one; the far call is of a subroutine.
FAR_CALL, CALL, BRANCH, UNIFORM_BRANCH, EXIT, RETURN = 0x943, 0x944, 0x947, 0x547, 0x94D, 0x950
# Of others the last nine bits are the family, and the first three how the operands are given.
LOAD, STORE, LOAD_LOCAL, STORE_LOCAL = 0x181, 0x186, 0x183, 0x187
# Floating-point arithmetic of 32 and 64 bits: FMUL, FADD, FFMA, DMUL, DADD, DFMA.
ARITHMETIC = {0x20, 0x21, 0x23, 0x28, 0x29, 0x2B}
ALWAYS = 7


class Instruction(NamedTuple):
    """One instruction: the scoreboard that it sets, those that it waits for, and what may come next."""

    opcode: int
    predicate: int
    sets: int | None
    waits: frozenset[int]
    leads: tuple[int, ...]  # by their indices

    @property
    def family(self) -> int:
        return self.opcode & 0x1FF

    @property
    def computes(self) -> bool:
        return self.family in ARITHMETIC


def _section(cubin: bytes, wanted: str) -> bytes:
    """Return the content of a section of an ELF file."""
    offset, _, _, _, _, size, count, strings = struct.unpack_from("<QIHHHHHH", cubin, 40)
    sections = [struct.unpack_from("<IIQQQQ", cubin, offset + size * i) for i in range(count)]
    for start, _, _, _, place, length in sections:
        start += sections[strings][4]
        if cubin[start : cubin.index(b"\0", start)] == wanted.encode():
            return cubin[place : place + length]
    raise KeyError(wanted)


def text(cubin: bytes, name: str) -> bytes:
    """Return the instructions of a kernel."""
    return _section(cubin, f".text.{name}")


def registers(cubin: bytes) -> int:
    """Return how many registers a thread takes of the kernel, and of the subroutines, of a file."""
    notes, found, at = _section(cubin, ".nv.info"), [], 0
    while at < len(notes):  # form, attribute, a value; in form 4 the length of what follows
        form, attribute, value = struct.unpack_from("<BBH", notes, at)
        at += 4
        if form == 4:
            if attribute == 0x2F:  # number of a symbol, and its registers
                found.append(struct.unpack_from("<II", notes, at)[1])
            at += value
    return max(found)


def decode(code: bytes, capability: tuple[int, int]) -> list[Instruction]:
    """Read the instructions of a kernel for a compute capability."""
    words = list(struct.iter_unpack("<QQ", code))
    found = []
    for i, (low, high) in enumerate(words):
        opcode, predicate = low & 0xFFF, low >> 12 & 0xF
        sets = high >> 46 & 7
        waits = frozenset(board for board in range(6) if high >> 52 + board & 1)
        leads = [i + 1] if i + 1 < len(words) else []
        if opcode in (BRANCH, UNIFORM_BRANCH, CALL):
            if opcode == BRANCH and predicate == ALWAYS:
                leads = []
            leads.append(i + 1 + _distance(low, high, capability) // 16)
        elif opcode in (EXIT, RETURN) and predicate == ALWAYS or opcode == FAR_CALL:
            leads = []
        found.append(Instruction(opcode, predicate, None if sets == 7 else sets, waits, tuple(leads)))
    return found


def _distance(low: int, high: int, capability: tuple[int, int]) -> int:
    """Bytes from the instruction after a branch to where it leads."""
    field = (high & 0x3FFFF) << 30 | low >> 34
    field -= (field >> 47) << 48
    return 4 * field if capability < (9, 0) else 4 * (field << 8 | low >> 16 & 0xFF)


def loop_of(program: list[Instruction], i: int) -> frozenset[int]:
    """Return the instructions of the loop that an instruction is in; empty where it is in none."""
    backward: dict[int, list[int]] = {}
    for j, instruction in enumerate(program):
        for following in instruction.leads:
            backward.setdefault(following, []).append(j)
    after = _reached(i, lambda j: program[j].leads)
    before = _reached(i, lambda j: backward.get(j, []))
    return frozenset(after & before)


def _reached(i, neighbours):
    found, open_ = set(), [i]
    while open_:
        for j in neighbours(open_.pop()):
            if j not in found:
                found.add(j)
                open_.append(j)
    return found


def waits_in_loops(program: list[Instruction]) -> list[tuple[int, int]]:
    """Return, for each load in a loop, its index and the instructions from it to the first that waits for it.

    The way is the shortest within the loop on which something is computed. Where nothing is, as in a turn of
    the loop that is for loading alone, there is no work to wait beside, and the way does not count; but it
    does where the wait stands before the computation. Nor does a way into a subroutine, which is for numbers
    out of the ordinary, such as the reciprocal of infinity in float64.
    """
    found = []
    for i, load in enumerate(program):
        if load.family != LOAD or load.sets is None:
            continue
        loop = loop_of(program, i)
        ways = [(1, j, False) for j in load.leads if j in loop]
        seen = set()
        while ways:
            length, j, computed = heapq.heappop(ways)
            if (j, computed) in seen:
                continue
            seen.add((j, computed))
            if load.sets in program[j].waits and program[j].opcode != FAR_CALL:
                if computed or _computes_later(program, loop, j):
                    found.append((i, length))
                    break
                continue
            computed = computed or program[j].computes
            for following in program[j].leads:
                if following in loop:
                    heapq.heappush(ways, (length + 1, following, computed))
    return found


def _computes_later(program: list[Instruction], loop: frozenset[int], i: int) -> bool:
    """Say whether an instruction, or one after it in the same turn of the loop, computes."""
    later = _reached(i, lambda j: [k for k in program[j].leads if k in loop and k > j])
    return any(program[j].computes for j in later | {i})
