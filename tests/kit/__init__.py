"""What tests share: fakes, clocks, certificates, records, and the servers of a test run."""
