"""What is watched while training: probes measure, detectors judge, alerts tell."""
