"""The bus: the only package that knows the NATS client."""

from mesh.bus.bus import Bus
from mesh.bus.connection import without_secrets
from mesh.bus.delivery import Delivery
from mesh.bus.follow import Follow, Followed
from mesh.bus.live import LiveSubscription
from mesh.bus.messages import (
    Conflict,
    ConsumerState,
    Difference,
    LiveMessage,
    Observer,
    StoredMessage,
    StreamFacts,
    StreamState,
    Subscription,
)
from mesh.bus.objects import StoredObject
from mesh.bus.pull import Puller
from mesh.bus.scan import parse_ack

__all__ = [
    "Bus",
    "Conflict",
    "ConsumerState",
    "Delivery",
    "Difference",
    "Follow",
    "Followed",
    "LiveMessage",
    "LiveSubscription",
    "Observer",
    "Puller",
    "StoredMessage",
    "StoredObject",
    "StreamFacts",
    "StreamState",
    "Subscription",
    "parse_ack",
    "without_secrets",
]
