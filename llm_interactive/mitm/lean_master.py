"""`llm-proxy serve`: mitmproxy with only the addons that a gateway needs, which makes a call several times cheaper.

Every mitmdump option may be given. Where one belongs to an addon that is not among the few, all of mitmdump's addons
are loaded instead (`NeedsEveryAddon`). A failed start is one line on stderr and exit code 1.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mitmproxy import addons as stock
from mitmproxy import exceptions, optmanager
from mitmproxy.addons import (
    block,
    core,
    dns_resolver,
    dumper,
    errorcheck,
    keepserving,
    next_layer,
    proxyserver,
    readfile,
    save,
    script,
    termlog,
    tlsconfig,
)
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.tools import cmdline

from llm_interactive import __version__
from llm_interactive import settings as settings_module
from llm_interactive.mitm import options
from llm_interactive.mitm.addons import addons
from llm_interactive.mitm.banner import Banner
from llm_interactive.settings import Settings, SettingsError

PROGRAM = "llm-proxy"
LOG_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "alert": logging.INFO, "info": logging.INFO}


class CannotStart(Exception):
    """Says why, in one line."""


class NeedsEveryAddon(Exception):
    """Something was asked for that the few addons do not know."""


class StartErrors(errorcheck.ErrorCheck):
    """Prints what failed in one line; mitmproxy asks for an addon of this name before and after it listens."""

    name = "errorcheck"

    async def shutdown_if_errored(self) -> None:
        await asyncio.sleep(0)  # the log's own tasks come first
        if self.logger.has_errored:
            raise CannotStart(_in_one_line(self.logger.has_errored[0].getMessage()))


def _in_one_line(message: str) -> str:
    first = message.strip().splitlines()[0]
    if "address already in use" not in first:
        return first
    where = re.search(r"listen on (\S+)", first)
    return f"{where[1] if where else 'the port'}: address already in use; choose another with --port"


class ServeMaster(Master):
    def __init__(self, every_addon: bool) -> None:
        super().__init__(Options())
        self.start_errors = StartErrors()
        self.termlog = termlog.TermLog()
        self.termlog.logger.uninstall()  # what fails during the start is said once, by `start_errors`
        self._termlog_addon = self.termlog
        few = (
            core.Core(),
            block.Block(),
            proxyserver.Proxyserver(),
            script.ScriptLoader(),
            dns_resolver.DnsResolver(),
            next_layer.NextLayer(),
            save.Save(),
            tlsconfig.TlsConfig(),
        )
        self.addons.add(self.termlog, *_with_ours(stock.default_addons() if every_addon else few))
        if every_addon:
            self.addons.add(dumper.Dumper(), keepserving.KeepServing(), readfile.ReadFileStdin())
        self.addons.add(self.start_errors)

    async def running(self) -> None:
        await super().running()
        await self.start_errors.shutdown_if_errored()
        self.termlog.logger.install()
        logging.getLogger().setLevel(LOG_LEVELS.get(self.options.termlog_verbosity, logging.DEBUG))


def _with_ours(stock_addons: Sequence[object]) -> list[object]:
    """Ours stand behind what decides on layers, which we put ours over, and before what saves flows, which must not
    miss our marks."""
    place = 1 + next(n for n, addon in enumerate(stock_addons) if isinstance(addon, next_layer.NextLayer))
    return [*stock_addons[:place], *addons(), *stock_addons[place:]]


def serve(arguments: Sequence[str]) -> int:
    """Runs until it is stopped; the exit code."""
    try:
        try:
            asyncio.run(_serve(arguments, every_addon=False))
        except NeedsEveryAddon:
            asyncio.run(_serve(arguments, every_addon=True))
    except (CannotStart, SettingsError, exceptions.OptionsError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve(arguments: Sequence[str], every_addon: bool) -> None:
    for noisy in ("asyncio", "hpack", "tornado", "quic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger().setLevel(logging.INFO)
    master = ServeMaster(every_addon)
    try:
        given = _parse(master, arguments, every_addon)
        settings = _configure(master, given, every_addon)
        if given.options or given.commands:
            _describe(master, given)
            return
        if not given.quiet:
            master.addons.add(Banner(settings))
        _stop_on_signals(master)
        await master.run()
    finally:
        master._legacy_log_events.uninstall()
        master.start_errors.logger.uninstall()


def _parse(master: ServeMaster, arguments: Sequence[str], every_addon: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} serve",
        usage="%(prog)s [options] [filter]",
        description="Serve LLM clients. Every option of mitmdump may be given too.",
        epilog=f"Other commands of {PROGRAM}: usage, models, env, ca, check.",
        allow_abbrev=False,
        conflict_handler="resolve",
    )
    ours = parser.add_argument_group("LLM Interactive Proxy")
    cmdline.common_options(parser, master.options)
    ours.add_argument("--host", dest="listen_host", help="address to listen on (PROXY_HOST, 127.0.0.1)")
    ours.add_argument("--port", dest="listen_port", type=int, help="port to listen on (PROXY_PORT, 8000)")
    ours.add_argument("--default-backend", dest="llm_backend", help="backend for bare model names (LLM_BACKEND)")
    ours.add_argument("--config", dest="llm_config", help="YAML file with settings (LLM_CONFIG)")
    ours.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    master.options.make_parser(parser, "flow_detail", metavar="LEVEL")
    parser.add_argument("filter", nargs="*", help="a filter expression, for what is saved, read and printed")
    if not every_addon and {"-h", "--help", "--options", "--commands"}.intersection(arguments):
        raise NeedsEveryAddon
    given, unknown = parser.parse_known_args(list(arguments))
    if not every_addon and (unknown or given.filter):
        raise NeedsEveryAddon
    if unknown:
        raise CannotStart(f"unknown option: {' '.join(unknown)} ({PROGRAM} serve --help lists them)")
    return given


def _configure(master: ServeMaster, given: argparse.Namespace, every_addon: bool) -> Settings:
    chosen = master.options
    values = {name: value for name, value in vars(given).items() if name in chosen and value is not None}
    values.setdefault("termlog_verbosity", "error" if given.quiet else "debug" if given.verbose else "warn")
    if every_addon:
        values.setdefault("flow_detail", 2 if given.verbose else 0)
        if given.filter:
            filters = ("save_stream_filter", "readfile_filter", "dumper_filter")
            values |= dict.fromkeys(filters, " ".join(given.filter))
    folder = Path(chosen.confdir).expanduser()
    optmanager.load_paths(chosen, str(folder / "config.yaml"), str(folder / "config.yml"))
    chosen.update(**values)
    chosen.set(*given.setoptions, defer=True)
    if chosen.deferred and not every_addon:
        raise NeedsEveryAddon
    settings = settings_module.load(options.given(chosen), os.environ, Path.cwd())
    if chosen.deferred:
        raise CannotStart(f"unknown option: {', '.join(chosen.deferred)} ({PROGRAM} serve --options lists them)")
    if not chosen.listen_host:
        chosen.update(listen_host=settings.proxy_host)
    if chosen.listen_port is None:
        chosen.update(listen_port=settings.proxy_port)
    return settings


def _describe(master: ServeMaster, given: argparse.Namespace) -> None:
    if given.options:
        optmanager.dump_defaults(master.options, sys.stdout)
    else:
        master.commands.dump()


def _stop_on_signals(master: ServeMaster) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, master.should_exit.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(master.should_exit.set))
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
