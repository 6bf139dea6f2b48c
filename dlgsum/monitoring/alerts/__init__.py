"""Alerts: what is worth telling, in words, to whoever asked to be told."""

from dlgsum.monitoring.alerts.alert import Alert
from dlgsum.monitoring.alerts.alerts import Alerts
from dlgsum.monitoring.alerts.outlet import Closed

__all__ = ["Alert", "Alerts", "Closed"]
