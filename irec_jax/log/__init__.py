"""What users did: behavior logs, where they come from and how they are split."""
