"""What watches a reply: each detector is one file and tells of a finding; what follows from it is decided elsewhere."""
