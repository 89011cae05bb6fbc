"""The product for Arm's processors, compiled on any: its code has the instruction that it is written for."""

import inspect
import re

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from seqsru.engine.packing import MOST_ROWS
from seqsru.engine.products import DOTS, int8_kernel

TARGET = "aarch64-unknown-linux-gnu"


class Context:
    """What a kernel asks of Numba."""

    def get_dummy_value(self):
        return None


def written(rows, kind):
    """A module with a function that calls the kernel of so many rows."""
    module = ir.Module("arm")
    module.triple = TARGET
    defined = int8_kernel(rows, kind)._defn
    signature, build = defined(None, *[None] * (len(inspect.signature(defined).parameters) - 1))
    function = ir.Function(
        module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(signature.args)), "product"
    )
    builder = ir.IRBuilder(function.append_basic_block())
    build(Context(), builder, signature, function.args)
    builder.ret_void()
    return llvm.parse_assembly(str(module))


def assembled(rows, kind="dotprod", features="+dotprod", code=False):
    """The kernel in Arm's assembly, or its machine code."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TARGET).create_target_machine(features=features, opt=3, reloc="pic")
    module = written(rows, kind)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return machine.emit_object(module) if code else machine.emit_assembly(module)


@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS])
def test_the_dot_product_instruction_is_used(rows):
    found = assembled(rows)
    _, parts, _, *together = DOTS["dotprod"]
    count = len(re.findall(r"\bsdot\tv\d+\.4s, v\d+\.16b, v\d+\.(?:16b|4b\[\d\])", found))
    assert count and count % (parts * together[rows > 1] * rows) == 0  # the loop may be unrolled
    assert re.search(r"\bfmla\tv\d+\.4s", found)  # scale and bias, rounded once
    assert assembled(rows, code=True).startswith(b"\x7fELF")


def test_a_processor_without_it_can_run_the_portable_loop():
    found = assembled(1, "portable", "-dotprod")
    assert "sdot" not in found and "mla" in found
