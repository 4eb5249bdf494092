#!/usr/bin/env python3
"""Runs a program in a kernel that seems to lack seccomp or Landlock.

    outer_filter.py CALL[,CALL...] PROGRAM [ARGUMENT...]

Each named call fails with ENOSYS for the program and all that it starts. The filter
is installed by raw system calls, since Python has no module for it.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {"landlock_create_ruleset": (444, 444), "seccomp": (317, 277)}    # x86_64, aarch64
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
RET_ERRNO, RET_ALLOW = 0x00050000, 0x7FFF0000


def program(numbers):
    code = struct.pack("<HBBI", LOAD, 0, 0, 0)
    for number in numbers:
        code += struct.pack("<HBBI", JUMP_EQUAL, 0, 1, number)
        code += struct.pack("<HBBI", RETURN, 0, 0, RET_ERRNO | errno.ENOSYS)
    return code + struct.pack("<HBBI", RETURN, 0, 0, RET_ALLOW)


class Code(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def install(names):
    column = 0 if platform.machine() == "x86_64" else 1
    code = program([NUMBERS[name][column] for name in names])
    libc = ctypes.CDLL(None, use_errno=True)
    filled = Code(len(code) // 8, code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(filled), 0, 0):
        raise OSError(ctypes.get_errno(), "the outer filter cannot be installed")


if __name__ == "__main__":
    install(sys.argv[1].split(","))
    os.execv(sys.argv[2], sys.argv[2:])
