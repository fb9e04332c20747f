"""Where a run goes: one module a target, a plan in, a manifest out."""
