"""What this machine is: facts are gathered by probes, and judged by functions that only take facts."""
