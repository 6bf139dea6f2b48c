"""One file a scorer; the file name is the name in `metrics.scorer`. The contract is `dlgsum.metrics.scorer.Scorer`."""
