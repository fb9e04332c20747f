"""What a run would need and take on devices that are not here."""
