"""What a run folder holds, as ``files`` lists it. Nothing else reads or writes its files, but for
train.log.

NumPy and PyTorch are imported where they are needed: both programs import these files at each
start.
"""
