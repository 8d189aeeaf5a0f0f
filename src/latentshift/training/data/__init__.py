"""The data of a run: its sources opened, checked and mixed, samples into batches, and what is said of them."""
