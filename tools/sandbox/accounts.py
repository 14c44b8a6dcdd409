"""The sandbox's accounts: one for every key, until the configuration gives a key to another."""

from tools.sandbox.account import Account, PayableSessions
from tools.sandbox.fault_injector import FaultInjector
from tools.sandbox.object_store import Json
from tools.sandbox.stepped_clock import SteppedClock

THE_ACCOUNT = "acct_1SandboxBookTicket"


class Accounts:
    """All accounts, with one clock. An account that no key belongs to any more keeps what it has."""

    def __init__(self, clock: SteppedClock, faults: FaultInjector) -> None:
        self._clock = clock
        self._faults = faults
        self.payable = PayableSessions()
        self.main = Account(THE_ACCOUNT, clock, faults, self.payable)
        self.reset()

    def reset(self) -> None:
        """Deletes everything."""
        self.payable.reset()
        self.main.reset()
        self._accounts = {THE_ACCOUNT: self.main}

    def of(self, key: str) -> Account:
        """The account of an API key."""
        identifier = self._faults.settings.accounts.get(key, THE_ACCOUNT)
        if identifier not in self._accounts:
            self._accounts[identifier] = Account(identifier, self._clock, self._faults, self.payable)
        return self._accounts[identifier]

    def holding(self, session: str) -> Account:
        """The account that has this session; the main one if none has."""
        return next((each for each in self._accounts.values() if each.sessions.get(session) is not None), self.main)

    def expire_due(self) -> None:
        """Expires the overdue sessions of all."""
        for account in self._accounts.values():
            account.expire_due()

    def ledger(self) -> list[Json]:
        """All sessions, oldest first."""
        sessions = [session for account in self._accounts.values() for session in account.sessions.bodies]
        return sessions if len(self._accounts) == 1 else sorted(sessions, key=lambda session: session["created"])

    def count(self, status: str) -> int:
        """The number of sessions with this status."""
        return sum(account.sessions.count(status) for account in self._accounts.values())
