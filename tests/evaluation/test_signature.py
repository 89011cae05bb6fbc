"""The line beside a number."""

import re
from urllib.parse import unquote

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


@pytest.mark.parametrize("name", ["a|b", "a:b", "a\nb"])
def test_a_name_that_could_not_be_read_back_is_refused(name):
    sentence = f"expected the name of a field without '|', ':' or line end, found {name!r}; rename it"
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        signature({name: 1})


def test_values_are_any_text_and_can_be_read_back():
    line = signature({"data": "a|b\n100%7C.txt", "of": "c:d"})
    assert line == f"seqsru {__version__}|data:a%7Cb%0A100%257C.txt|of:c:d"
    assert unquote(line.split("|")[1]) == "data:a|b\n100%7C.txt"
