"""One video over several processes: each has a part of the frames, and hands a neighbour what the shift takes of it."""
