"""What a store holds: where it lies, its schemas, codecs, fingerprints and snapshots."""
