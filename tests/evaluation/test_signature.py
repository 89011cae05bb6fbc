"""The line beside a number."""

import pytest
import torch
from torch import nn

from seqsru import __version__
from seqsru.errors import Refused
from seqsru.evaluation.signature import machine, parameters, signature


def test_fields_in_order_and_none_left_out():
    line = signature({"cell": "sru-v2", "layers": 4, "note": None, "tokens": 82430})
    assert line == f"seqsru {__version__}|cell:sru-v2|layers:4|tokens:82430"


def test_shared_parameters_count_once():
    model = nn.Sequential(nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False))
    assert parameters(model) == "2.0M"
    model[1].weight = model[0].weight
    assert parameters(model) == "1.0M"


def test_machine_says_where():
    fields = machine(torch.device("cpu"))
    assert list(fields) == ["torch", "device", "threads"]
    assert torch.__version__.startswith(str(fields["torch"])) and "+" not in str(fields["torch"])
    assert fields["device"] == "cpu" and fields["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("fields", [{"a|b": 1}, {"a": "x|y"}, {"a": "x\ny"}, {"a:b": 1}])
def test_what_could_not_be_read_back_is_refused(fields):
    with pytest.raises(Refused, match=r"expected a signature without '\|' or line end, and no ':' in a name"):
        signature(fields)
