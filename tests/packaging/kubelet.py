"""Runs the containers of pods as the kubelet would, without images: their files lie where they are mounted, in a mount namespace (root)."""

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from objects import files
from shell import environment, process

# What programs read of /etc to resolve names and to trust certificates.
SYSTEM = ["nsswitch.conf", "passwd", "group", "resolv.conf", "ssl", "ca-certificates", "ld.so.cache", "localtime"]
SCRIPT = 'root="$1"; shift; mount --bind "$root/etc" /etc && mount --bind "$root/bin" /usr/local/bin && mount --bind "$root/cache" /var/cache && exec "$@"'


class Pod:
    """`pod` is a Pod or a template; `secrets` are texts by name and key; `hosts` are names that lead to this machine."""

    def __init__(self, pod, folder, binary, secrets=None, hosts=()):
        self.pod, self.folder = pod, Path(folder)
        self.container = pod["spec"]["containers"][0]
        for name in ("etc", "bin", "cache/onstage"):
            (self.folder / name).mkdir(parents=True)
        for name in SYSTEM:
            source = Path("/etc") / name
            if source.is_dir():
                shutil.copytree(source, self.folder / "etc" / name, symlinks=True)
            elif source.exists():
                shutil.copy(source, self.folder / "etc" / name)
        (self.folder / "etc/hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ["localhost", *hosts]))
        (self.folder / "bin/onstage").symlink_to(binary)
        self.mount(secrets or {})

    def mount(self, secrets):
        mounted = dict(files(self.pod))
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        for mount in self.container["volumeMounts"]:
            volume = volumes[mount["name"]]
            source = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
            for key, text in secrets[source].items() if source else ():
                mounted[f"{mount['mountPath']}/{key}"] = text
        for path, text in mounted.items():
            assert path.startswith("/etc/"), path
            file = self.folder / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def command(self, arguments):
        return ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", self.folder, *arguments]

    def environment(self):
        given = {each["name"]: each["value"] for each in self.container.get("env", [])}
        return environment(**{**given, "TMPDIR": "/tmp"})

    @contextmanager
    def running(self):
        """The container as a process in the background."""
        log = self.folder / "log"
        with process(*self.command(["/usr/local/bin/onstage", *self.container["args"]]), log=log, env=self.environment()) as started:
            yield started, log

    def run(self, arguments):
        """A command in the container: its exit code and what it says."""
        command = [str(part) for part in self.command(arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, env=self.environment())
        return done.returncode, done.stdout + done.stderr

    def end(self):
        """The container to its end."""
        return self.run(["/usr/local/bin/onstage", *self.container["args"]])
