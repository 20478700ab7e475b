"""What a sandboxed process does once it is shut in: run a program on its standard streams, answer calls to it, or run
test code.

Invariants: the source is compiled, and the outcome reported, before any of it runs, so that the first report is
trustworthy and all later ones are advisory; the source is compiled as it is, with nothing before or around it.
Descriptors: 0, 1, 2 the standard streams, CONTROL what to do, REPORT what became of it, CALLS_IN and CALLS_OUT the
other process of a code test. Loaded by sandbox/zygote.py, never imported by ours.

Reports are frames of one tuple each: ("compiled",), ("loaded",), ("syntax", type, message, line, column), ("raised", type, base,
message, line, column, frames), ("value", value), ("unjudgeable", message), ("too_large", message), and of the tester
("passed", nonce), ("failed", line of the test, type, message, got), ("solution", line of the test, and as after "raised"),
("lost", message), ("broken", message), and of a checker ("checked", nonce, right). Which lines run (python_lines.py) is told in between, by frames on the side. After the frames may
come a stack as faulthandler writes it (WHERE_SIGNAL).
"""

from __future__ import annotations

import atexit
import builtins
import faulthandler
import gc
import io
import marshal
import os
import random
import re
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

import python_lines  # type: ignore[import-not-found]  # put there by the zygote
import python_peer as peer  # type: ignore[import-not-found]
import wire  # type: ignore[import-not-found]

CONTROL, REPORT, CALLS_IN, CALLS_OUT = 3, 4, 5, 6
WHERE_SIGNAL = 41
# At that signal a process writes its stack to REPORT, after its frames, whatever it does: the handler is C and needs no interpreter.
faulthandler.register(WHERE_SIGNAL, file=REPORT, all_threads=False, chain=False)

_COMPILED = wire.frame(wire.encode(("compiled",)))
# Made beforehand: there may be no memory left to make it when it is wanted.
_NO_MEMORY = wire.frame(wire.encode(("raised", "MemoryError", "MemoryError", "", None, None, ())))


# A thread of the program may have something to tell while another one answers.
_telling = threading.RLock()
_lines: Any = None  # what tells of the lines that run, where that is asked for


def report(*message: Any) -> None:
    """Send one report; a closed channel is not the program's concern."""
    try:
        _send(wire.encode(message))
    except (OSError, wire.WireError):
        pass


def _send(payload: bytes) -> None:
    with _telling:
        wire.write_frame(REPORT, payload)


def _tell(*message: Any) -> None:
    """Send one report on the side."""
    try:
        _send(wire.ASIDE + wire.encode(message))
    except (OSError, wire.WireError):
        pass


def main() -> NoReturn:
    """Do what the control frame says."""
    job = marshal.loads(wire.read_frame(CONTROL))  # from the judge, whom this process trusts
    if "calls" not in job:
        os.close(CONTROL)
    gc.enable()
    {"stdio": _stdio, "solution": _solution, "tester": _tester, "checker": _checker}[job["role"]](job)
    os._exit(0)


def _compile(job: dict[str, Any]) -> types.CodeType:
    global _lines
    source = job["source"]
    try:
        # A file may begin with a byte order mark, which is no part of the text.
        code = compile(source.removeprefix("\ufeff"), peer.PROGRAM, "exec", dont_inherit=True)
    except BaseException as error:
        syntax = isinstance(error, SyntaxError)
        line = error.lineno if syntax else None
        column = error.offset if syntax else None
        message = error.msg if syntax else str(error)
        report("syntax", type(error).__name__, message, line or None, column if column and column > 0 else None)
        os._exit(1)
    os.write(REPORT, _COMPILED)
    if "line_events" in job:
        _lines = python_lines.Lines(source.removeprefix("\ufeff"), code, _tell, job["line_events"])
        _lines.start()
    return code


def _report_raised(error: BaseException) -> None:
    try:
        report("raised", *peer.named(error), *peer.where(error))
    except MemoryError:
        try:
            os.write(REPORT, _NO_MEMORY)
        except OSError:
            pass


def make_streams() -> None:
    """Standard streams as the interpreter itself makes them on pipes: once, in the zygote; its forks have other pipes in the same places."""
    read, write = os.pipe()
    for place, end in enumerate((read, write, write)):
        os.dup2(end, place)
    os.close(read)
    os.close(write)
    for name, fd, errors in (("stdin", 0, "strict"), ("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = open(fd, "rb" if fd == 0 else "wb", closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            raw,
            "utf-8",
            "surrogateescape" if fd < 2 else errors,
            newline=None if fd == 0 else "\n",
            line_buffering=fd == 2,
        )
        stream.mode = "r" if fd == 0 else "w"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    return module


def _stdio(job: dict[str, Any]) -> NoReturn:
    """The program as `python main.py` would run it, to the exit status."""
    code = _compile(job)
    _module("__main__").__file__ = "main.py"
    sys.argv = ["main.py"]
    try:
        exec(code, sys.modules["__main__"].__dict__)  # held by no name of ours, so that it can go at the end
        status = 0
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException as error:
        _report_raised(error)
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next
        try:
            sys.excepthook(type(error), error, error.__traceback__)
        except BaseException:
            pass
        status = 1
        error.__traceback__ = None
    os._exit(_finish(status))


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    try:
        print(error.code, file=sys.stderr)
    except BaseException:
        pass
    return 1


def _finish(status: int) -> int:
    """What the interpreter does at its end that a program can see: join threads, exit functions, destructors, flush."""
    if _lines is not None:
        _lines.check()
    steps: list[Callable[[], None]] = [atexit._run_exitfuncs]
    if threading.active_count() > 1 or threading._threading_atexits:  # type: ignore[attr-defined]
        steps.insert(0, threading._shutdown)  # type: ignore[attr-defined]
    for step in steps:
        try:
            step()
        except BaseException:
            pass
    try:
        sys.modules.pop("__main__", None)  # its functions and objects go together, the destructors before the names
        gc.collect()
    except BaseException:
        pass
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            status = status or 120
    for name in ("__stdout__", "__stderr__"):  # what was written before the program put another in its place
        try:
            getattr(sys, name).flush()
        except BaseException:
            pass
    return status


_METHOD = re.compile(r"(\w+)\(\)\.(\w+)\Z")


def _entry(name: str, names: dict[str, Any]) -> Any:
    """What an entry point stands for: a function, or `Class().method`."""
    method = _METHOD.match(name)
    base = method.group(1) if method else name
    if base not in names:
        raise NameError(f"name {base!r} is not defined")
    return getattr(names[base](), method.group(2)) if method else names[base]


def _solution(job: dict[str, Any]) -> NoReturn:
    """Load the program as a module that is not the main one; make the calls that are asked for, or serve the tester."""
    code = _compile(job)
    names = _module("solution").__dict__
    try:
        exec(code, names)
        if "calls" not in job:
            peer.Peer(CALLS_IN, CALLS_OUT, names, job["cap"]).serve_forever()
            os._exit(0)
    except BaseException as error:
        _report_raised(error)
        os._exit(1)
    report("loaded")
    while True:
        try:
            entry, args, kwargs = wire.decode(wire.read_frame(CONTROL))
        except (EOFError, OSError, wire.WireError):
            os._exit(0)
        _answer(entry, args, kwargs, names, job["cap"])


def _answer(entry: str, args: list[Any], kwargs: dict[str, Any], names: dict[str, Any], cap: int) -> None:
    """Make one call and report what it returns or raises."""
    try:
        value = _entry(entry, names)(*args, **kwargs)
    except BaseException as error:
        _report_raised(error)
        return
    finally:
        if _lines is not None:
            _lines.check()
    try:
        payload = wire.encode(("value", value), cap)
    except wire.TooLarge as error:
        report("too_large", str(error))
    except (wire.WireError, RuntimeError) as error:  # RuntimeError: changed by a thread meanwhile
        report("unjudgeable", str(error))
    except MemoryError as error:
        _report_raised(error)
    else:
        try:
            _send(payload)
        except OSError:
            os._exit(0)  # the program closed the channel


def _tester(job: dict[str, Any]) -> NoReturn:
    """Run trusted test code; the program's functions are called in the solution's process."""
    other = peer.Peer(CALLS_IN, CALLS_OUT, None, job["cap"])
    random.seed()  # what a test draws is not to be known to the program, whose numbers start alike every time
    try:
        code = compile(job["code"], "<test>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        report("broken", f"the test code does not compile: {error}")
        os._exit(1)
    names = _module(peer.TEST_MODULE).__dict__
    wanted: list[str] = []
    try:
        for module in job["modules"]:
            names[module] = __import__(module)
        wanted = job["names"] + [job["entry_point"]] * (job["entry_point"] is not None)
        found = other.ask("names", wanted)[0]  # answered once the program is loaded
        names.update({name: found[name] for name in wanted if type(found) is dict and name in found})
        if job["entry_point"] is not None and job["entry_point"] not in names:
            _missing(job["entry_point"])
        exec(code, names)
    except peer.PeerLost as error:
        report("lost", str(error))
    except BaseException as error:
        if isinstance(error, NameError) and error.name in wanted:
            _missing(error.name)
        if error is other.error and other.shown is not None:
            report("solution", _test_line(error), *other.shown)
        else:
            report("failed", _test_line(error), type(error).__name__, peer.named(error)[2], _last_call(other))
    else:
        report("passed", job["nonce"])
        os._exit(0)
    os._exit(1)


def _checker(job: dict[str, Any]) -> NoReturn:
    """Run a problem's own checker, trusted code, on an answer that is a plain value."""
    names = _module("__checker__").__dict__
    try:
        exec(compile(job["code"], "<checker>", "exec", dont_inherit=True), names)
        right = names["check"](*wire.decode(job["values"]))
    except BaseException as error:
        report("broken", f"{type(error).__name__}: {peer.named(error)[2]}")
        os._exit(1)
    report("checked", job["nonce"], bool(right))
    os._exit(0)


def _missing(name: str) -> NoReturn:
    report("solution", None, "NameError", "NameError", f"name {name!r} is not defined", None, None, ())
    os._exit(1)


def _test_line(error: BaseException) -> int | None:
    line, tb = None, error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename == "<test>":
            line = tb.tb_lineno
        tb = tb.tb_next
    return line


def _last_call(other: Any) -> str | None:
    if other.last is None or len(other.last) != 4:
        return None
    try:
        return repr(other.last[3])[:2000]
    except BaseException:
        return None
