"""hog.py BYTES - takes so much memory, says "held", and waits to be killed."""
import mmap
import sys

held = mmap.mmap(-1, int(sys.argv[1]))
if hasattr(mmap, "MADV_HUGEPAGE"):
    held.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, len(held), mmap.PAGESIZE):
    held[at] = 1
print("held", flush=True)
sys.stdin.read()
