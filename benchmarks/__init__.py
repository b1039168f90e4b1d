"""Speed against other libraries, measured so that a comparison can be trusted; see README.md."""
