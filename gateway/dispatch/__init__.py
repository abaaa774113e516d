"""What works through the ledger: workers that deliver, and the sweeper that erases."""
