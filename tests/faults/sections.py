"""The faults that are tried, a function a kind: each gives how many it tried, and what did not hold."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import hostile
import tiny
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, settings, write_config, write_texts
from trying import CHANGES, WRITES, at_operation, full, killed, tried

from seqsru import runs
from seqsru.commands.main import main
from seqsru.ops import compiled
from seqsru.training import checkpoints

SENTENCE = re.compile(
    r"(seqsru: |\S+:\d+: |command line: )?.*expected .*, found .*|.* is not a setting.*", re.DOTALL
)


class Bench:
    """A folder with texts and two trained runs, made once.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.folder = folder
        write_texts(folder)
        self.lm, self.mt = folder / "lm", folder / "mt"
        runs.train(
            settings(folder, LANGUAGE_MODEL, f"output={self.lm}", "training.save_every=3"), lambda line: None
        )
        runs.train(
            settings(
                folder, TRANSLATION, f"output={self.mt}", "training.save_every=2", "training.log_every=1"
            ),
            lambda line: None,
        )
        self.used = {run: self.said(run) for run in (self.lm, self.mt)}

    def use(self, run):
        """What the run in a folder is used for."""
        command = "score" if (run / "tokenizer.json").exists() else "translate"
        return main([command, str(run), str(self.folder / "test.src")])

    def said(self, run):
        """What using a good run says."""
        found = tried(lambda: self.use(run))
        assert found.status == 0, found
        return found.said

    @contextmanager
    def copy(self, run):
        """A copy of a run, and a folder outside it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            shutil.copytree(run, Path(place) / "run")
            (Path(place) / "elsewhere").mkdir()
            yield Path(place) / "run", Path(place) / "elsewhere"


def hostile_runs(bench, numbers):
    """Hostile runs, used and gone on with: a sentence, or the result of the good run; nothing elsewhere."""
    wrong, seen = [], 0
    for number in numbers:
        source = (bench.lm, bench.mt)[number // len(hostile.WAYS) % 2]
        with bench.copy(source) as (run, elsewhere):
            name = hostile.hostile(run, elsewhere, number)
            before = hostile.state_of(elsewhere)
            command = "score" if source == bench.lm else "translate"
            using = [command, str(run), str(bench.folder / "test.src")]
            for what, given in (("use", using), ("train", ["train", str(run), more(source)])):
                seen += 1
                found = tried(lambda given=given: main(given), seconds=60)
                fault = found.wrong
                if not fault and found.status not in (0, 2):
                    fault = f"status {found.status}"
                if not fault and found.status == 2 and not SENTENCE.match(found.said):
                    fault = "no sentence"
                plain = "signed" not in name and name.startswith(("other_kind", "content"))
                told = re.search("using another checkpoint|it has no rank", found.said)  # the next one is
                if not fault and plain and not told and what == "use" and found.status == 0:
                    fault = "" if bench.used[source] in found.said else "another result"
                if not fault and hostile.state_of(elsewhere) != before:
                    fault = "something elsewhere was changed"
                if fault:
                    wrong.append(f"{number} {name}, {what}: {fault}: {found.said[-300:]!r}")
    return seen, wrong


def more(run):
    """A setting with which a finished run goes on."""
    return "training.epochs=3" if run.name == "lm" else "training.steps=6"


def damaged_cache(numbers):
    """Damaged files of compiled code: the numbers of a good one, and one line that says so."""

    def body():
        def double(source, target, count):
            for i in range(count):
                target[i] = 2 * source[i] + 1

        return double

    def called():
        import ctypes

        place = compiled.address(
            body, ["float32*", "float32*", "int64"], name="doubled", sources=[Path(__file__)], fastmath=[]
        )
        f = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4, ctypes.c_int64)(place)
        source, target = (ctypes.c_float * 3)(1, 2, 3), (ctypes.c_float * 3)()
        f(compiled.IGNORED, compiled.IGNORED, ctypes.addressof(source), ctypes.addressof(target), 3)
        return list(target)

    wrong = []
    numbers = list(numbers)
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o700)
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = place
        try:
            called()
            (path,) = Path(place, "seqsru").glob("*.code")
            good = path.read_bytes()
            for number in numbers:
                draw = random.Random(number)
                at = draw.randrange(len(good))
                bad = draw.choice(
                    [
                        good[:at],
                        good[:at] + bytes([good[at] ^ (1 << draw.randrange(8))]) + good[at + 1 :],
                        good[:at] + draw.randbytes(draw.randrange(1, 64)) + good[at:],
                        draw.randbytes(draw.randrange(9999)),
                        good[:at] + bytes(len(good) - at),
                        b"\x80\x04\x95pickle" + good[at:],
                    ]
                )
                path.write_bytes(bad)
                found = tried(lambda: 0 if called() == [3, 5, 7] else 9)
                if bad != good and (
                    found.wrong or found.status != 0 or found.said.count("is made anew") != 1
                ):
                    wrong.append(f"{number}: {found}")
        finally:
            os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)
    return len(numbers), wrong


NO_SUCH = 40  # the status of a try in which there were not so many operations


def yaml_files(bench, numbers):
    """Settings that are no settings, or that nobody can mean: refused in ten seconds, with a place."""
    good = LANGUAGE_MODEL.format(folder=bench.folder).replace(f"{bench.folder}/run", f"{bench.folder}/fresh")
    wrong, seen = [], 0
    values = {
        "optimizer": ["lr: 1e308", "weight_decay: 100000", "eps: 0", "beta1: 1", "name: sgd, momentum: 1.5",
                      "name: sgd, shrink: -0.5", "lr: .inf", "lr: -1", "lr: " + "9" * 5000],
        "training": ["epochs: 1, clip: .inf", "epochs: 1, threads: 2147483648", "epochs: 1, clip: 1e308",
                     "epochs: 1, accumulate: 9223372036854775808", "epochs: 1, max_minutes: 1e308"],
        "batches": ["batch_size: 0", "window: 9223372036854775807", "batch_size: 4611686018427387904"],
        "schedule": ["name: constant, warmup: 9223372036854775807", "name: noam, width: 1000000000000"],
    }  # fmt: skip
    texts = {f"{name}: {value[:40]}": without(good, name) + f"{name}: {{{value}}}\n"
             for name, several in values.items() for value in several}  # fmt: skip
    for number in numbers:
        draw = random.Random(number)
        depth, count = draw.randrange(60, 100_000), draw.randrange(14, 60)
        letters = "".join(
            draw.choice("[]{}:,-?&*!|>'\"#%@`\n ab0\t\\") for _ in range(draw.randrange(1, 400))
        )
        texts |= {
            f"{number} deep list": good + "x: " + "[" * depth,
            f"{number} deep map": good + "x: " + "{a: " * depth,
            f"{number} deep block": good + "".join(f"{' ' * n}a:\n" for n in range(min(depth, 1000))),
            f"{number} bomb": "a0: &a0 [x, x]\n" + "".join(
                f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, count)) + good,
            f"{number} wide bomb": f"a: &a [{'x, ' * 1000}x]\nb: [{'*a, ' * 1000}*a]\n" + good,
            f"{number} large": good + "#" * (2**20 + draw.randrange(9_000_000)),
            f"{number} digits": good + f"seed: {draw.choice('123456789') * draw.randrange(41, 6000)}\n",
            f"{number} letters": good + f"y: {letters}",
            f"{number} escape": good + f'x: "\\U{draw.randrange(2**31, 2**32):08x}"\n',
            f"{number} half": good.replace(f"output: {bench.folder}/fresh", r'output: "\ud800"'),
        }  # fmt: skip
    path = bench.folder / "bad.yaml"
    for name, text in texts.items():
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        seen += 1
        found = tried(lambda: main(["train", "--check", str(path)]), seconds=20)
        fault = found.wrong or ("" if found.status == 2 else f"status {found.status}")
        if not fault and not re.match(r"\S+bad\.yaml:\d+: ", found.said):
            fault = "no place"
        if not fault and len(found.said) > 6000:
            fault = "a long message"
        if fault:
            wrong.append(f"{name}: {fault}: {found.said[-300:]!r}")
    return seen, wrong


def without(text, section):
    """A configuration without the lines of a section of one line."""
    return "\n".join(line for line in text.split("\n") if not line.startswith(f"{section}:"))


def killed_anywhere(folder, share):
    """A training killed before each operation on a file, gone on with: the same bits as one that was not."""
    whole = folder / "whole"
    options = {"save_every": 4, "keep": 2, "epochs": 1}
    tiny.make(whole, **options).fit()
    expected = tiny.files(whole)
    wrong, number, step = [], 1, max(1, round(1 / share))
    while True:
        run = folder / f"killed-{number}"

        def train(run=run, number=number):
            seen = at_operation(number, killed, CHANGES, False, run)
            tiny.make(run, **options).fit()
            return 3 if seen[0] >= number else 4

        found = tried(train)
        if found.status == 4:
            break
        again = tried(lambda run=run: 0 if fitted(run, options, expected) else 9)
        if found.status != -signal.SIGKILL or again.status != 0 or again.wrong:
            wrong.append(f"operation {number}: {found} then {again}")
        shutil.rmtree(run, ignore_errors=True)
        number += step
    return (number - 1) // step, wrong


def fitted(run, options, expected):
    """Whether a training ends with the files that are expected."""
    tiny.make(run, **options).fit()
    return tiny.files(run) == expected


def full_disk(bench, share):
    """No room at any place where something is written: one sentence, nothing lost, nothing half done."""
    from seqsru.data import corpora

    config = write_config(bench.folder, LANGUAGE_MODEL)
    mirror = bench.folder / "mirror" / "made"
    mirror.mkdir(parents=True, exist_ok=True)
    (mirror / "text").write_bytes(b"x" * 5000)
    corpora.CORPORA["made"] = (
        corpora.Remote("http://nowhere/text", hostile_sum(mirror / "text"), {"": "text"}),
    )
    os.environ["SEQSRU_MIRROR"] = str(mirror.parent)
    commands = {
        "train": lambda out: [
            "train",
            str(config),
            f"output={out}/run",
            "training.save_every=3",
            "training.epochs=1",
        ],
        "translate": lambda out: [
            "translate",
            str(bench.mt),
            str(bench.folder / "test.src"),
            "--output",
            f"{out}/o",
        ],
        "fetch": lambda out: ["fetch", "made", str(out)],
        "quantize": lambda out: ["quantize", str(bench.mt), "--output", f"{out}/q", "--shortlist", "none"],
        "evaluate": lambda out: ["evaluate", str(bench.lm), "--json", f"{out}/j"],
    }
    wrong, seen, step = [], 0, max(1, round(1 / share))
    for name, arguments in commands.items():
        whole = None
        number = 0  # where nothing is full
        while True:
            with tempfile.TemporaryDirectory(dir=bench.folder) as out:

                def action(out=out, number=number, arguments=arguments):
                    happened = at_operation(number, full, WRITES, True, out)
                    status = main(arguments(out))
                    return status if happened[0] >= number else NO_SUCH

                found = tried(action)
                if number == 0:
                    whole = made(out)
                elif found.status == NO_SUCH:
                    break
                elif found.status == 0:  # there is another way, such as to copy what cannot be renamed
                    seen += 1
                    if found.wrong or made(out) != whole:
                        wrong.append(f"{name}, write {number}, another result: {found}")
                else:
                    seen += 1
                    lines = [one for one in found.said.splitlines() if one.startswith("seqsru: expected")]
                    if found.wrong or found.status != 2 or len(lines) != 1 or " room for " not in lines[0]:
                        wrong.append(f"{name}, write {number}: {found}")
                    again = tried(lambda out=out, arguments=arguments: main(arguments(out)))
                    if again.status != 0 or made(out) != whole:
                        wrong.append(f"{name}, write {number}, then again: {again}")
            number += step if number else 1
    return seen, wrong


def made(folder):
    """Names and bytes of what a command made, but for what holds a time or the name of the folder."""
    found = {str(path.relative_to(folder)): path for path in Path(folder).rglob("*") if path.is_file()}
    kept = {name: path.read_bytes() for name, path in found.items() if not re.search("run/(?!.*model)", name)}
    return sorted(name for name in found if not name.endswith("/lock")), kept


def hostile_sum(path):
    """The sum of a file as corpora have it."""
    from seqsru.data.files import file_digest

    return file_digest(path, "sha256")


def small_disk(bench, sizes):
    """A training on a disk, or with files, of so many KiB: one sentence, and with room the run goes on."""
    config = write_config(bench.folder, LANGUAGE_MODEL)
    wrong, sizes = [], list(sizes)
    with tempfile.TemporaryDirectory(dir=bench.folder) as place:
        mounted = (
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True
            ).returncode
            == 0
        )
        try:
            for size in sizes:
                if mounted:
                    subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)

                def train(size=size):
                    if not mounted:
                        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 1024, size * 1024))
                    return main(["train", str(config), f"output={place}/run", "training.save_every=3"])

                found = tried(train)
                said = found.said.splitlines()[-1:]
                if (
                    found.wrong
                    or found.status not in (0, 2)
                    or (found.status == 2 and " room for " not in said[0])
                ):
                    wrong.append(f"{size} KiB: {found}")
                if mounted:
                    subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
                again = tried(
                    lambda: main(["train", str(config), f"output={place}/run", "training.save_every=3"])
                )
                if again.status != 0:
                    wrong.append(f"{size} KiB, then with room: {again}")
                shutil.rmtree(Path(place) / "run", ignore_errors=True)
        finally:
            if mounted:
                subprocess.run(["umount", place], check=True)
    return len(sizes), wrong


def loads_while_training(folder, count):
    """Loads of a run that is trained, a checkpoint an update: each finds a whole one, without a warning."""
    run = folder / "busy"
    process = os.fork()
    if not process:
        try:
            while True:
                shutil.rmtree(run / "log", ignore_errors=True)
                tiny.make(
                    run, save_every=1, epochs=10**6, schedule="constant", keep=2, validate_every=3
                ).fit()
        finally:
            os._exit(0)
    wrong, seen = [], 0
    try:
        while not checkpoints.paths(run / "checkpoints"):
            time.sleep(0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for number in range(count):
                seen += 1
                try:
                    found = checkpoints.select(run / "checkpoints", ("best", "last")[number % 2])
                    assert found.model() and found.training()
                except Exception as error:
                    wrong.append(f"load {number}: {error!r}")
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        shutil.rmtree(run, ignore_errors=True)
    return seen, wrong


def terminated(bench, numbers):
    """SIGTERM at a random moment of a training, once or twice: status 143 and the same bits after."""
    config = write_config(bench.folder, LANGUAGE_MODEL)
    options = ["training.save_every=3", "training.epochs=2"]
    wrong, numbers = [], list(numbers)
    with tempfile.TemporaryDirectory(dir=bench.folder) as place:
        began = time.monotonic()
        assert tried(lambda: main(["train", str(config), f"output={place}/whole", *options])).status == 0
        lasted, expected = time.monotonic() - began, tiny.files(f"{place}/whole")
        for number in numbers:
            draw = random.Random(number)
            run = f"{place}/{number}"
            moments = [(draw.uniform(0, lasted), signal.SIGTERM)]
            if draw.random() < 0.3:
                moments.append((draw.uniform(0, 0.05), signal.SIGTERM))
            try:
                found = tried(
                    lambda run=run: main(["train", str(config), f"output={run}", *options]), signals=moments
                )
            except ProcessLookupError:
                continue  # it had ended
            ended = found.status in (0, 143) or (found.status == -signal.SIGTERM and not found.said)
            if "Traceback" in found.said or not ended:
                wrong.append(f"{number}: {found}")
            again = tried(lambda run=run: main(["train", str(config), f"output={run}", *options]))
            if again.status != 0 or tiny.files(run) != expected:
                wrong.append(f"{number}, then again: {again}")
            shutil.rmtree(run)
    return len(numbers), wrong


def started(bench, numbers):
    """SIGTERM while a process starts: status 143 or death by the signal, and no traceback."""
    config = write_config(bench.folder, LANGUAGE_MODEL)
    wrong, numbers = [], list(numbers)
    for number in numbers:
        with tempfile.TemporaryDirectory(dir=bench.folder) as place:
            process = subprocess.Popen(
                [sys.executable, "-m", "seqsru", "train", str(config), f"output={place}/run"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            time.sleep(random.Random(number).uniform(0, 4))
            process.send_signal(signal.SIGTERM)
            try:
                said = process.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[1] + " hung"
            if process.returncode not in (0, 143, -signal.SIGTERM) or "Traceback" in said or "hung" in said:
                wrong.append(f"{number}: {process.returncode} {said[-500:]!r}")
    return len(numbers), wrong
