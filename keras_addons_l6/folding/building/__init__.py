"""Building: the tape played again into fresh stock layers."""
