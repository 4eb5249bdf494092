"""terminal.py - a program in a terminal of its own, whose screen tests read (pyte)."""
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import threading
import time

import pyte
from measure import PATIENCE_S


class Screen(pyte.Screen):
    """With what terminfo says of xterm and pyte does not know."""

    def scroll_up(self, count=None):
        self.scroll(count, self.delete_lines)

    def scroll_down(self, count=None):
        self.scroll(count, self.insert_lines)

    def scroll(self, count, move):
        y, x = self.cursor.y, self.cursor.x
        self.cursor.y = self.margins.top if self.margins else 0
        move(count or 1)
        self.cursor.y, self.cursor.x = y, x

    def draw(self, data):
        super().draw(data)
        self.last = data[-1:]

    def repeat(self, count=None):
        self.draw(self.last * (count or 1))


class Stream(pyte.ByteStream):
    csi = {**pyte.ByteStream.csi, "S": "scroll_up", "T": "scroll_down", "b": "repeat"}
    events = pyte.ByteStream.events | {"scroll_up", "scroll_down", "repeat"}


class Terminal:
    """size: lines, columns."""

    def __init__(self, command, environment, size=(24, 80), term="xterm-256color",
                 patience_s=PATIENCE_S, **keywords):
        self.patience_s = patience_s
        self.ours, self.theirs = os.openpty()
        self.screen = Screen(size[1], size[0])
        self.stream = Stream(self.screen)
        self.lock, self.raw = threading.Lock(), bytearray()
        self.set_size(*size)
        self.before = termios.tcgetattr(self.theirs)
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=self.theirs, stdout=self.theirs,
            env={"LC_ALL": "C.UTF-8", **environment, "TERM": term}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **{"stderr": self.theirs, **keywords})
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                data = os.read(self.ours, 65536)
            except OSError:
                return
            if not data:
                return
            with self.lock:
                self.raw += data
                self.stream.feed(data)

    def set_size(self, lines, columns):
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, lines, columns):
        with self.lock:
            self.screen.resize(lines, columns)
        self.set_size(lines, columns)    # the kernel sends SIGWINCH

    def lines(self):
        with self.lock:
            return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines())

    def row(self, pattern):
        """The line that matches, else None."""
        return next((line for line in self.lines() if re.search(pattern, line)), None)

    def wait(self, what, timeout_s=None):
        """what: a pattern on the screen, or a function that is true in the end."""
        end = time.monotonic() + (timeout_s or self.patience_s)
        while True:
            found = what() if callable(what) else re.search(what, self.text(), re.M)
            if found:
                return found
            assert time.monotonic() < end, f"waited in vain for {what}; the screen:\n{self.text()}"
            assert self.process.poll() is None or callable(what), \
                f"ended with {self.process.returncode} before {what}:\n{self.text()}"
            time.sleep(0.02)

    def until(self, check):
        """Waits until check() passes, whose assertions are about the screen: a frame may
        come in pieces, and what is on it later than what was waited for."""
        end = time.monotonic() + self.patience_s
        while True:
            try:
                return check()
            except (AssertionError, LookupError, ValueError):
                if time.monotonic() > end or self.process.poll() is not None:
                    print(self.text())
                    raise
            time.sleep(0.02)

    def keys(self, text):
        os.write(self.ours, text.encode())

    def marked(self):
        """Lines with reverse video, all over."""
        with self.lock:
            return [self.screen.display[y].rstrip() for y in range(self.screen.lines)
                    if all(self.screen.buffer[y][x].reverse for x in range(self.screen.columns))]

    def chosen(self):
        """The line that is marked, the line of keys aside. While the mark moves there may
        be two or none."""
        line, _ = self.wait(lambda: len(lines := self.marked()) == 2 and lines)
        return line

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        """Its status when it has ended."""
        status = self.process.wait(self.patience_s)
        self.wait(lambda: not self.pending())
        return status

    def pending(self):
        with self.lock:
            before = len(self.raw)
        time.sleep(0.05)
        with self.lock:
            return len(self.raw) != before

    def restored(self):
        """The terminal's settings are as they were before."""
        return termios.tcgetattr(self.theirs) == self.before

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self.ours, self.theirs):
            os.close(fd)
