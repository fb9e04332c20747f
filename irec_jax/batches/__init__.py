"""What the device sees: packed token batches of static shapes."""
