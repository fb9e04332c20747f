"""Loss, optimizer, sharding, checkpoints and the loop."""
