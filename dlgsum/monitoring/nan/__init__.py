"""The report about the first step whose loss or gradient is not finite."""
