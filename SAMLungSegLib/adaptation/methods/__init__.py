"""The methods of adaptation, one a file; `method` finds them."""
