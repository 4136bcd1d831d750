"""The destination on another host, over ssh."""
