"""What a store holds: schemas, codecs, fingerprints, atomic reads and writes of aligned parts."""
