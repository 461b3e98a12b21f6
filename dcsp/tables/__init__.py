"""What a store holds: schemas, codecs, fingerprints, and atomic reads and writes of aligned parts."""
