"""Runs a function on many arguments in processes that may crash or hang without ending the others."""

import multiprocessing
import resource
import signal
import time
import traceback
from collections import deque
from multiprocessing import connection

# A graph whose sizes come from its data may ask for any amount of memory: the allocation fails, not the machine.
MEMORY_LIMIT = 6 << 30

# Processor time counts, so that a busy or paused machine changes no result; the clock only ends a worker that sleeps.
WALL_SECONDS = 900


class HarnessError(Exception):
    """An exception of our own code in a worker; a crash of ONNX Runtime is an outcome instead."""


def serve(function, tasks, seconds):
    """The loop of a worker: an argument in, a result out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            task = tasks.recv()
        except EOFError:
            return
        # Beyond its soft limit the process gets SIGXCPU, which ends it.
        limit = int(time.process_time()) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            result = ("done", function(*task))
        except Exception:
            result = ("raised", traceback.format_exc())
        tasks.send(result)


class Worker:
    def __init__(self, function, seconds):
        self.function, self.seconds = function, seconds
        self.context = multiprocessing.get_context("fork")
        self.task = None
        self.start()

    def start(self):
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(self.function, theirs, self.seconds), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, index, task):
        self.task = index
        self.deadline = time.monotonic() + WALL_SECONDS
        self.pipe.send(task)

    def stop(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def outcome(self):
        """What became of the task, once the pipe is readable or the deadline has passed; a dead process is replaced."""
        try:
            if self.pipe.poll():
                return self.pipe.recv()
            state = ("timed out", None)
        except (EOFError, ConnectionResetError):
            self.process.join()
            state = ("timed out" if self.process.exitcode == -signal.SIGXCPU else "crashed", None)
        self.stop()
        self.start()
        return state


def run(function, tasks, jobs, seconds):
    """Yields `(index, state, result)` for each task, in any order; `state` is done, crashed, or timed out.

    A task times out after so many seconds of processor time.
    """
    waiting = deque(enumerate(tasks))
    idle = [Worker(function, seconds) for _ in range(min(jobs, len(waiting)))]
    everyone, busy = list(idle), []
    try:
        while waiting or busy:
            while waiting and idle:
                worker = idle.pop()
                worker.give(*waiting.popleft())
                busy.append(worker)
            patience = min(worker.deadline for worker in busy) - time.monotonic()
            ready = connection.wait([worker.pipe for worker in busy], max(patience, 0))
            now = time.monotonic()
            for worker in [each for each in busy if each.pipe in ready or each.deadline <= now]:
                state, result = worker.outcome()
                busy.remove(worker)
                idle.append(worker)
                if state == "raised":
                    raise HarnessError(result)
                yield worker.task, state, result
    finally:
        for worker in everyone:
            worker.stop()
