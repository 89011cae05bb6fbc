"""Comparisons in processes of their own."""

import os
import subprocess
import sys
import time


def start(spec):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "seqsru", "compare", str(spec)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def steps_of(run):
    """Updates that a training has saved."""
    return max([int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")], default=0)


def wait_for_step(run, step, process):
    """Wait until a training has saved more than so many updates."""
    for _ in range(6000):
        if steps_of(run) > step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it does not train")
