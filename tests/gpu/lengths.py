"""lengths.py - how long real texts are, for the mixed part of tests/gpu/run.

Hundredths (the middle of each) of the descriptions of the 61,466 packages of Debian 12,
main, in English (Translation-en of bookworm, short and long description together), in
tokens of BERT's uncased WordPiece with the two special ones, from 8 to 512. Their mean
is 92; 119 of them are longer than 512.
"""
HUNDREDTHS = [
    19, 24, 28, 31, 33, 35, 37, 38, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 49, 50,
    51, 52, 53, 54, 55, 55, 56, 57, 58, 59, 59, 60, 61, 62, 63, 64, 64, 65, 66, 67,
    68, 69, 69, 70, 71, 72, 73, 74, 75, 77, 78, 79, 80, 81, 82, 83, 84, 85, 87, 88,
    89, 90, 92, 93, 95, 96, 97, 99, 100, 102, 103, 105, 107, 109, 111, 113, 115, 117, 120, 122,
    125, 127, 130, 133, 136, 140, 144, 148, 153, 158, 164, 170, 178, 187, 195, 208, 223, 244, 281,
    382]


def lengths(count, rng, longest=512):
    """So many lengths of that distribution, the tails (8 and 512) among them."""
    out = [8, longest]
    while len(out) < count:
        at = rng.random() * len(HUNDREDTHS) - 0.5
        low = max(0, min(int(at), len(HUNDREDTHS) - 2))
        value = HUNDREDTHS[low] + (at - low) * (HUNDREDTHS[low + 1] - HUNDREDTHS[low])
        out.append(max(8, min(longest, round(value))))
    rng.shuffle(out)
    return out[:count]
