"""What ran: one event for every matrix product, and ledgers that add them up."""
