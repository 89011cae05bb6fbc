"""A small machine for PTX: runs what the compiler made of a kernel, one thread at a time, without a GPU.

It knows the instructions that the kernels of seqsru compile to and no others; an unknown one is an error.
Registers are as wide as PTX says and arithmetic wraps as it does there, so a product of sizes that was
taken in 32 bits gives a wrong address here too. The approximate instructions (`ex2.approx`, `div.approx`,
…) are computed exactly.

Reference: NVIDIA, *Parallel Thread Execution ISA*, chapter 9.
"""

from __future__ import annotations

import math
import operator
import re

import numpy as np

WIDTH = {"8": 8, "16": 16, "32": 32, "64": 64}
FLOAT = {"f32": np.float32, "f64": np.float64}
STORED = {**FLOAT, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64}
UNSIGNED = {16: np.uint16, 32: np.uint32, 64: np.uint64}
COMPARE = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
INSTRUCTION = re.compile(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.]*)\s*(.*);")


def parse(ptx):
    """Return (parameter names, instructions, label -> index) of the one kernel in a PTX text."""
    head, body = ptx[ptx.index(".entry") :].split("{", 1)
    parameters = re.findall(r"\.param \.\w+ (\w+)", head)
    instructions, labels = [], {}
    for line in body.splitlines():
        line = line.split("//")[0].strip()
        if line.endswith(":"):
            labels[line[:-1]] = len(instructions)
        elif line and line[0] not in ".{}":
            negate, guard, code, rest = INSTRUCTION.fullmatch(line).groups()
            operands = [part.strip() for part in re.findall(r"\{.*?\}|[^,\s][^,]*", rest)]
            instructions.append((guard, negate == "!", code.split("."), operands))
    return parameters, instructions, labels


def signed(bits, width):
    bits &= (1 << width) - 1
    return bits - (1 << width) if bits >> (width - 1) else bits


class Memory:
    """Flat arrays far apart in a 64-bit address space; an access outside them is an error."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.bases = [(number + 1) << 52 for number in range(len(arrays))]

    def element(self, address, kind):
        """The array that holds an address, seen as `kind`, and the index there."""
        array, offset = self.arrays[(address >> 52) - 1], address & ((1 << 52) - 1)
        assert array.itemsize * 8 == WIDTH[kind[1:]] and offset % array.itemsize == 0
        assert offset < array.nbytes, "out of bounds"
        return array.view(STORED[kind]), offset // array.itemsize

    def load(self, address, kind):
        array, index = self.element(address, kind)
        return array[index] if kind in FLOAT else int(array[index])

    def store(self, address, kind, value):
        array, index = self.element(address, kind)
        array[index] = value


class Thread:
    """One thread of a parsed kernel; its memory has `load(address, kind)`, `store(address, kind, value)`."""

    def __init__(self, program, arguments, grid, block, thread, memory, threads=64):
        parameters, self.instructions, self.labels = program
        assert len(parameters) == len(arguments)
        self.arguments = dict(zip(parameters, arguments))
        self.registers = {"%ctaid.x": block[0], "%ctaid.y": block[1], "%tid.x": thread, "%ntid.x": threads}
        self.registers |= {"%nctaid.x": grid[0], "%nctaid.y": grid[1]}
        self.memory = memory

    def run(self):
        at = 0
        while True:
            guard, negate, code, operands = self.instructions[at]
            at += 1
            if guard and self.registers[guard] == negate:
                continue
            if code[0] == "ret":
                return
            if code[0] == "bra":
                at = self.labels[operands[-1]]
            else:
                self.step(code, operands)

    def value(self, operand, kind):
        """Operand read as `kind`: a NumPy float, a bool, or a Python int of that width and sign."""
        if operand.startswith("%"):
            value = self.registers[operand]
        elif operand.startswith("0f"):
            value = np.uint32(int(operand[2:], 16)).view(np.float32)
        elif operand.startswith("0d"):
            value = np.uint64(int(operand[2:], 16)).view(np.float64)
        else:
            value = int(operand, 0)
        if kind == "pred":
            return bool(value)
        if kind in FLOAT:
            return value if isinstance(value, np.floating) else self.bits_to_float(value, kind)
        width = WIDTH[kind[1:]]
        if isinstance(value, np.floating):
            value = int(value.view(UNSIGNED[8 * value.itemsize]))
        return signed(value, width) if kind[0] == "s" else value & ((1 << width) - 1)

    @staticmethod
    def bits_to_float(value, kind):
        return UNSIGNED[int(kind[1:])](value & ((1 << int(kind[1:])) - 1)).view(FLOAT[kind])

    def put(self, operand, value, kind):
        """Write a register: float registers hold NumPy floats, the others the unsigned bits."""
        if operand.startswith("%f") and not isinstance(value, np.floating):
            value = self.bits_to_float(value, "f64" if operand.startswith("%fd") else "f32")
        elif isinstance(value, np.floating) and not operand.startswith("%f"):
            value = int(value.view(UNSIGNED[8 * value.itemsize]))
        elif kind != "pred" and not isinstance(value, np.floating):
            value = int(value) & ((1 << WIDTH[kind[1:]]) - 1)
        self.registers[operand] = value

    def step(self, code, operands):
        name, kind = code[0], code[-1]
        target = operands[0]
        if name == "ld" and code[1] == "param":
            value = self.arguments[operands[1].strip("[]")]
            self.put(target, FLOAT[kind](value) if kind in FLOAT else value, kind)
        elif name in ("ld", "st"):
            place = operands[1] if name == "ld" else operands[0]
            register, _, offset = place.strip("[]").partition("+")
            address = self.value(register, "u64") + (int(offset) if offset else 0)
            if name == "ld":
                self.put(target, self.memory.load(address, kind), kind)
            else:
                self.memory.store(address, kind, self.value(operands[1], kind))
        elif name == "mov" and "{" in "".join(operands):
            self.halves(target, operands[1])
        elif name == "setp":
            a, b = (self.value(operand, kind) for operand in operands[1:])
            test = code[1].removesuffix("u") if kind in FLOAT else code[1]
            unordered = bool(kind in FLOAT and (np.isnan(a) or np.isnan(b)))
            if test in ("nan", "num"):
                self.registers[target] = unordered == (test == "nan")
            else:
                self.registers[target] = code[1].endswith("u") if unordered else bool(COMPARE[test](a, b))
        elif name == "selp":
            self.put(target, self.value(operands[1 if self.registers[operands[3]] else 2], kind), kind)
        elif name == "cvt":
            self.put(target, self.convert(code, self.value(operands[1], kind), code[-2]), code[-2])
        elif code[1:2] == ["wide"]:
            a, b = (self.value(operand, kind) for operand in operands[1:3])
            added = self.value(operands[3], "u64") if name == "mad" else 0
            self.put(target, a * b + added, "u64")
        elif name == "bfi":
            inserted, base = (self.value(operand, kind) for operand in operands[1:3])
            place, length = (self.value(operand, "u32") for operand in operands[3:])
            mask = (1 << length) - 1
            self.put(target, base & ~(mask << place) | (inserted & mask) << place, kind)
        elif name in ("shl", "shr"):
            amount = self.value(operands[2], "u32")
            value = self.value(operands[1], kind)
            self.put(target, value << amount if name == "shl" else value >> amount, kind)
        else:
            values = [self.value(operand, kind) for operand in operands[1:]]
            with np.errstate(all="ignore"):
                self.put(target, self.arithmetic(name, code, kind, values), kind)

    def halves(self, target, source):
        """A 64-bit move from or to two registers of 32 bits, low half first."""
        if target.startswith("{"):
            bits = self.value(source, "u64")
            for half, register in enumerate(target.strip("{}").split(",")):
                self.put(register.strip(), bits >> 32 * half, "u32")
        else:
            low, high = (self.value(register.strip(), "u32") for register in source.strip("{}").split(","))
            self.put(target, high << 32 | low, "u64")

    @staticmethod
    def convert(code, value, kind):
        if kind == "f16":
            return int(np.float16(value).view(np.uint16))
        if code[-1] == "f16":
            return np.float32(np.uint16(value).view(np.float16))
        if kind in FLOAT:
            value = np.rint(value) if "rni" in code else value
            value = np.clip(np.nan_to_num(value), 0, 1) if "sat" in code else value
            return FLOAT[kind](value)
        return value

    @staticmethod
    def arithmetic(name, code, kind, values):
        if name in ("mov", "cvta"):
            return values[0]
        if kind in FLOAT:
            real, a = FLOAT[kind], values[0]
            if name == "fma":
                wide = np.float64 if kind == "f32" else np.longdouble
                exact = wide(a) * wide(values[1]) + wide(values[2])
                rounded = real(exact)
                down = code[1] == "rm" and rounded > exact
                return np.nextafter(rounded, real(-math.inf)) if down else rounded
            if name == "copysign":
                return np.copysign(values[1], a)
            one = {"neg": operator.neg, "abs": abs, "ex2": np.exp2, "rcp": lambda x: real(1) / x}
            two = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
            return real(one[name](a)) if name in one else real(two[name](*values))
        logic = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
        if name == "not":
            return not values[0] if kind == "pred" else ~values[0]
        if name == "neg":
            return -values[0]
        if name in logic:
            return logic[name](*values)
        if name == "mad":
            assert code[1] == "lo"
            return values[0] * values[1] + values[2]
        a, b = values
        if name in ("div", "rem"):
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return quotient if name == "div" else a - b * quotient
        if name == "mul":
            assert code[1] == "lo"
        return {"add": a + b, "sub": a - b, "mul": a * b, "min": min(a, b), "max": max(a, b)}[name]
