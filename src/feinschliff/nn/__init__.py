"""The neural part that training and serving share: attention over prefix trees, linear layers with adapters, loading."""
