"""What a run folder holds. Nothing else reads or writes its files, but for train.log.

    config.yaml     the resolved configuration
    metrics.json    final numbers; written last, so a run without it is not finished
    history.csv     a row an epoch
    features.npz    train and test features, labels, predictions; centers; the last layer's weight
    snapshots.npz   features of a fixed set of test images, and the centers, through training
    checkpoint.pt   all that resuming needs; while training checkpoint.previous.pt, the one before
    figure.png      the run's training and test features
    SHA256SUMS      checksums of a finished run's files, as `sha256sum -c` reads them
    failure.txt     only after a failure: its reason, one line
    diverged.json   only after a divergence: the metrics of the last checkpoint
    progress.json, train.log       of a multirun's runs: how far one has come, what it printed

Every file is written under a temporary name, flushed and renamed: it is whole or absent. What
happens to it afterwards is noticed when it is read: a checkpoint ends with its own checksum, those
of a finished run's files are in SHA256SUMS. A folder without one, put together by hand, is read as
it is.

NumPy and PyTorch are imported where they are needed: both programs import these files at each
start.
"""
