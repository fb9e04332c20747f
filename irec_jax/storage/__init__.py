"""Resumable sharded builds: shards, worker processes, tf.Example, Apache Beam."""
