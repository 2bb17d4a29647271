#!/usr/bin/env python3
"""Each rule of check_layers.py, kept and broken, on small trees."""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check_layers  # noqa: E402

TREE = {
    "transport/err.h": "/* err.h - codes. Value. */\n",
    "transport/addr.h": '/* addr.h - addresses. Value. */\n#include "transport/err.h"\nstruct wr_ip {\n};\n',
    "transport/addr.c": '#include "transport/addr.h"\n#include <string.h>\n',
    "transport/mss.h": '/* mss.h - names. Machine: no time. */\n#include "transport/addr.h"\n',
    "transport/mss.c": '#include "transport/mss.h"\n#include "transport/key.pb-c.h"\n',
    "transport/env.h": "/* env.h - the seam. Service. */\n",
    "transport/env_uv.h": '/* env_uv.h - on libuv. Service. */\n#include "transport/env.h"\n',
    "transport/env_uv_net.c": '#include "transport/env_uv.h"\n#include <uv.h>\n',
    "transport/kv_lmdb.c": '#include "transport/env_uv.h"\n#include <uv.h>\n',
    "transport/swarm.h": '/* swarm.h - connections. Service. */\n#include "transport/env.h"\n',
    "transport/swarm_impl.h": '/* Shared by the parts of swarm. */\n#include "transport/swarm.h"\n',
    "transport/swarm_dial.c": '#include "transport/swarm_impl.h"\n',
    "dht/dht.h": '/* dht.h - finds. Service. */\n#include "transport/swarm.h"\n',
    "dht/dht.c": '#include "dht/dht.h"\n',
    "relay/relay.h": '/* relay.h - lends. Service. */\n#include "transport/swarm.h"\n',
    "node/node.h": '/* node.h - wires. Service. */\n#include "dht/dht.h"\n#include "relay/relay.h"\n',
    "tools/cli.h": "/* cli.h - commands. */\n",
    "tools/main.c": '#include "cli.h"\n#include "node/node.h"\n#include "transport/env_uv.h"\n#include <uv.h>\n',
}


def write(root, files):
    for name, text in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def forget():
    for cached in (check_layers.header_of, check_layers.rank_in, check_layers.types_of):
        cached.cache_clear()


def library(root, name, objects):
    """A static library of objects given as {stem: C source}."""
    path = os.path.join(root, "lib%s.a" % name)
    made = []
    for stem, text in objects.items():
        source, made_one = os.path.join(root, stem + ".c"), os.path.join(root, stem + ".c.o")
        write(root, {stem + ".c": text})
        subprocess.run(["cc", "-c", source, "-o", made_one], check=True)
        made.append(made_one)
    subprocess.run(["ar", "rc", path] + made, check=True)
    return path


class Layers(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = holder.name
        write(self.root, TREE)

    def add(self, name, *lines):
        write(self.root, {name: TREE.get(name, "") + "\n".join(lines) + "\n"})
        forget()

    def expect(self, *parts):
        """One breach, and these words in it."""
        breaches = check_layers.check_includes(self.root)
        self.assertEqual(len(breaches), 1, breaches)
        for part in parts:
            self.assertIn(part, breaches[0])

    def test_a_clean_tree(self):
        self.assertEqual(check_layers.check_includes(self.root), [])
        self.assertEqual(check_layers.main(["check_layers", self.root]), 0)

    def test_an_empty_tree_is_no_success(self):
        with tempfile.TemporaryDirectory() as empty:
            self.assertEqual(check_layers.main(["check_layers", empty]), 1)

    def test_upward(self):
        self.add("transport/swarm_dial.c", '#include "dht/dht.h"')
        self.expect("transport/swarm_dial.c:2", "folder", "above")
        self.assertEqual(check_layers.main(["check_layers", self.root]), 1)

    def test_upward_to_node(self):
        self.add("dht/dht.c", '#include "node/node.h"')
        self.expect("dht/dht.c:2", "folder", "above")

    def test_sideways(self):
        self.add("dht/dht.c", "", '  #  include "relay/relay.h"')
        self.expect("dht/dht.c:3", "folder", "beside")

    def test_tests_and_unknown_folders(self):
        self.add("dht/dht.c", '#include "tests/sim/sim.h"')
        self.expect("folder", "tests")
        self.add("dht/dht.c", '#include "elsewhere/x.h"')
        self.expect("folder", "elsewhere")

    def test_a_bare_name_is_beside_the_file(self):
        self.add("dht/dht.c", '#include "dht.h"')
        self.assertEqual(check_layers.check_includes(self.root), [])
        self.add("dht/dht.c", '#include "missing.h"')
        self.expect("dht/missing.h", "no such file")

    def test_value_includes_service(self):
        self.add("transport/addr.c", '#include "transport/swarm.h"')
        self.expect("transport/addr.c:3", "rank", "value", "service")

    def test_value_includes_machine(self):
        self.add("transport/addr.h", '#include "transport/mss.h"')
        self.expect("transport/addr.h", "rank", "value", "machine")

    def test_machine_includes_service(self):
        self.add("transport/mss.c", '#include "transport/swarm_impl.h"')
        self.expect("transport/mss.c", "rank", "machine", "service")

    def test_time_is_for_all(self):
        self.add("transport/mss.c", '#include "transport/env.h"')
        self.assertEqual(check_layers.check_includes(self.root), [])

    def test_a_header_names_its_rank(self):
        self.add("relay/voucher.h", "/* voucher.h - signed. */")
        self.expect("relay/voucher.h", "rank")

    def test_uv(self):
        self.add("transport/swarm_dial.c", "#include <uv.h>")
        self.expect("transport/swarm_dial.c:2", "uv")

    def test_seam(self):
        self.add("dht/dht.c", '#include "transport/env_uv.h"')
        self.expect("dht/dht.c:2", "seam")

    def test_comments_do_not_count(self):
        self.add("dht/dht.c", '/*\n#include "node/node.h"\n*/', '// #include "node/node.h"')
        self.assertEqual(check_layers.check_includes(self.root), [])


class Symbols(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = holder.name
        write(self.root, TREE)

    def breaches(self, objects, name="transport"):
        return check_layers.check_symbols(self.root, library(self.root, name, objects))

    def test_own_names(self):
        self.assertEqual(
            self.breaches({
                "mss": "int wr_mss_input(void) { return 1; }\nstatic int hidden = 1;\n"
                       "int wr_mss(void) { return hidden; }",
                "addr": "int wr_addr_print(void) { return 1; }\nint wr_ip_parse(void) { return 1; }",
                "env_uv_net": "int wr_env_listen(void) { return 1; }",
                "key.pb-c": "int wr__pb__key = 1;",
            }), [])

    def test_foreign_names(self):
        for text in ("int wr_mss_input(void) { return 1; }", "int print(void) { return 1; }",
                     "int wr_addresses = 1;", "int wr_ipv6 = 1;", "int addr_print(void) { return 1; }"):
            found = self.breaches({"addr": text})
            self.assertEqual(len(found), 1, text)
            self.assertIn("prefix", found[0])
            self.assertIn("addr.o", found[0])

    def test_generated_names(self):
        self.assertEqual(len(self.breaches({"key.pb-c": "int libp2p__key = 1;"})), 1)

    def test_other_folders_have_other_types(self):
        self.assertEqual(len(self.breaches({"addr": "int wr_ip_parse(void) { return 1; }"}, "dht")), 1)

    def test_a_part_of_another_module(self):
        text = "int wr_swarm_dial(void) { return 1; }"
        self.assertEqual(len(self.breaches({"mss": text})), 1)
        write(self.root, {"transport/swarm_impl.h": "/* Parts. */\nint wr_swarm_dial(void);\n"})
        self.assertEqual(self.breaches({"mss": text}), [])
        self.assertEqual(len(self.breaches({"mss": "int wr_swarm_close(void) { return 1; }"})), 1)

    def test_an_object_file(self):
        library(self.root, "transport", {"transport/addr": "int wr_ip_parse = 1;\nint foreign = 1;\nstruct wr_ip {\n};"})
        found = check_layers.check_symbols(self.root, os.path.join(self.root, "transport/addr.c.o"))
        self.assertEqual(found, ["addr.c.o(addr.o): prefix: foreign"])

    def test_a_library_without_symbols_is_no_success(self):
        self.assertEqual(len(self.breaches({"addr": "static int nothing;"})), 1)


if __name__ == "__main__":
    unittest.main()
