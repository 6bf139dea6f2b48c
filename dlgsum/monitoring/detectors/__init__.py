"""One file a detector, named as in `monitoring.detectors`. The contract is `dlgsum.monitoring.detector.Detector`."""
