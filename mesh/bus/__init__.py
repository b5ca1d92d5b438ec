"""The bus: the only package that knows the NATS client."""

from mesh.bus.bus import Bus
from mesh.bus.delivery import Delivery
from mesh.bus.messages import Conflict, LiveMessage, Observer, StoredMessage, Subscription
from mesh.bus.objects import StoredObject
from mesh.bus.pull import Puller

__all__ = [
    "Bus",
    "Conflict",
    "Delivery",
    "LiveMessage",
    "Observer",
    "Puller",
    "StoredMessage",
    "StoredObject",
    "Subscription",
]
