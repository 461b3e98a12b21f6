"""Where images and tags come from: one file a kind of source; ``open`` knows them all."""
