"""terraform/ as real tools read it: hclfmt, python-hcl2, checkov; and rules of ours about rights."""

import json
import os
import re
import subprocess
from itertools import chain
from pathlib import Path

import hcl2
import pytest

from aiops_localcluster import binaries, cache
from aiops_localcluster.progress import Lines

ROOT = Path(__file__).resolve().parents[3]
TERRAFORM = ROOT / "terraform"
FOLDERS = [TERRAFORM, TERRAFORM / "bootstrap"]
FILES = sorted(chain.from_iterable(folder.glob("*.tf") for folder in FOLDERS))
CHECKOV = "checkov==3.3.30"
CHECKOV_DAY = "2026-11-20"  # of what it depends on, the versions of this day
# Actions of AWS that know no resources, so that "*" is all that can be said.
WITHOUT_RESOURCES = re.compile(
    r"ecr:GetAuthorizationToken|iam:ListOpenIDConnectProviders|(batch|ec2):Describe\w+|batch:ListTagsForResource|"
    r"logs:(\w+LogDelivery|ListLogDeliveries|DescribeLogGroups|\w+ResourcePolic(y|ies))|"
    r"states:(ListStateMachines|ValidateStateMachineDefinition)|xray:(Get|Put)\w+"
)


def blocks(folder, kind):
    """All blocks of one kind in a configuration, by their labels joined with dots."""
    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True, explicit_blocks=False)
    found = {}
    for path in sorted(folder.glob("*.tf")):
        for block in hcl2.loads(path.read_text(), serialization_options=options).get(kind, []):
            labels = []
            while kind in {"resource", "data", "variable", "output"} and len(labels) < (
                2 if kind in {"resource", "data"} else 1
            ):
                (label, block), *_ = block.items()  # noqa: PLW2901 - labels are nested dicts
                labels.append(label)
            found[".".join(labels) or str(len(found))] = block
    return found


def statements(folder):
    """Every statement that allows something, with the name of its policy document."""
    return [
        (name, statement)
        for name, document in blocks(folder, "data").items()
        if name.startswith("aws_iam_policy_document.")
        for statement in document["statement"]
        if statement.get("effect") != "Deny"
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TERRAFORM)))
def test_files_are_formatted(path):
    """As hclfmt does, by the library that `tofu fmt` uses."""
    hclfmt = binaries.ensure_one("hclfmt", Lines())
    done = subprocess.run([hclfmt, path], capture_output=True, text=True, check=True)
    assert done.stdout == path.read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_references_lead_somewhere(folder):
    """Every resource, data source, variable and local that is named is there, and every variable is named."""
    text = "\n".join(re.sub(r"(?m)(^|\s)#.*$", "", path.read_text()) for path in sorted(folder.glob("*.tf")))
    resources, data, variables = (blocks(folder, kind) for kind in ("resource", "data", "variable"))
    named = {
        "data": set(re.findall(r"\bdata\.(aws_\w+\.\w+)", text)),
        "resource": set(re.findall(r"(?<![\w.])(aws_\w+\.\w+)", text)),
        "variable": set(re.findall(r"\bvar\.(\w+)", text)),
        "local": set(re.findall(r"\blocal\.(\w+)", text)),
    }
    locals_ = {name for block in blocks(folder, "locals").values() for name in block}
    assert {"data": set(), "resource": set(), "local": set()} == {
        "data": named["data"] - set(data),
        "resource": named["resource"] - set(resources),
        "local": named["local"] - locals_,
    }
    assert set(variables) == named["variable"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_variables_and_outputs_are_described(folder):
    """Each variable has a type and a sentence, each output a sentence."""
    variables, outputs = blocks(folder, "variable"), blocks(folder, "output")
    assert [] == [name for name, block in variables.items() if not {"type", "description"} <= set(block)]
    assert [] == [name for name, block in outputs.items() if "description" not in block]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_wildcard_in_actions(folder):
    """What may be done is named, action for action."""
    assert [] == [
        (name, action) for name, statement in statements(folder) for action in statement["actions"] if "*" in action
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_resources_only_where_there_are_none_to_name(folder):
    """`*` stands only beside actions that know no resources."""
    wide = [
        action
        for _, statement in statements(folder)
        if statement.get("resources") == ["*"]
        for action in statement["actions"]
    ]
    assert [] == [action for action in wide if not WITHOUT_RESOURCES.fullmatch(action)]
    assert [] != wide


def test_policies_fit():
    """AWS takes 6,144 characters in a managed policy, and 10,240 in all the inline policies of a role."""
    sizes = {}
    for folder in FOLDERS:
        for name, statement in statements(folder):
            text = json.dumps(statement, separators=(",", ":"))
            text = re.sub(r"\$\{[^}]*\}", "x" * 20, text)
            sizes[folder, name] = sizes.get((folder, name), 60) + len(text)
    inline = [sizes[FOLDERS[1], f"aws_iam_policy_document.{name}"] for name in ("state_access", "roles", "services")]
    assert [] == [(name, size) for (_, name), size in sizes.items() if size > 6144 and not name.endswith("services")]
    assert sum(inline) < 9000  # the rest is for the lists of ARNs that a name stands for


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_bucket_is_closed_encrypted_and_versioned(folder):
    """And refuses what does not come over TLS."""
    resources = blocks(folder, "resource")
    buckets = [name.partition(".")[2] for name in resources if name.startswith("aws_s3_bucket.")]
    closed = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert [] != buckets
    for bucket in buckets:
        access = resources[f"aws_s3_bucket_public_access_block.{bucket}"]
        assert [True] * 4 == [access[key] for key in closed]
        assert f"aws_s3_bucket_server_side_encryption_configuration.{bucket}" in resources
        versioning = resources[f"aws_s3_bucket_versioning.{bucket}"]["versioning_configuration"]
        assert ["Enabled"] == [block["status"] for block in versioning]
        policy = blocks(folder, "data")[f"aws_iam_policy_document.{bucket}_bucket"]["statement"]
        assert [("Deny", "aws:SecureTransport")] == [
            (each["effect"], each["condition"][0]["variable"]) for each in policy
        ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_github_is_trusted_for_one_environment_of_one_repository(folder):
    """Audience and subject are compared whole; a pattern would let other branches and repositories in."""
    trusts = [
        {(condition["test"], condition["variable"].rpartition(":")[2]) for condition in statement["condition"]}
        for _, statement in statements(folder)
        if "sts:AssumeRoleWithWebIdentity" in statement["actions"]
    ]
    assert [{("StringEquals", "aud"), ("StringEquals", "sub")}] == trusts


def test_every_role_stands_under_the_boundary():
    """So the role that makes them cannot make one that may do more."""
    roles = {name: block for name, block in blocks(TERRAFORM, "resource").items() if name.startswith("aws_iam_role.")}
    assert [] != list(roles)
    assert [] == [name for name, block in roles.items() if block.get("permissions_boundary") != "${local.boundary}"]


def test_the_boundary_allows_what_the_roles_may_do():
    """An action that a role has and the boundary lacks would be refused at run time."""
    allowed = {
        action
        for name, statement in statements(TERRAFORM / "bootstrap")
        if name == "aws_iam_policy_document.boundary"
        for action in statement["actions"]
    }
    wanted = {
        action
        for name, statement in statements(TERRAFORM)
        if not name.endswith("_trust")
        for action in statement["actions"]
    }
    assert wanted == allowed


def test_the_definition_is_given_its_variables():
    """Templatefile names each variable of retraining.asl.json, and no other."""
    given = re.search(r"templatefile\(.*?\{(.*?)\}\)", (TERRAFORM / "retraining.tf").read_text(), re.DOTALL)
    wanted = set(re.findall(r"\$\{(\w+)\}", (TERRAFORM / "retraining.asl.json").read_text()))
    assert wanted == set(re.findall(r"(?m)^\s*(\w+)\s*=", given[1]))


def test_checkov_has_nothing_to_say():
    """Its rules for AWS, but for those that terraform/.checkov.yaml names with a reason."""
    uv = os.environ.get("UV") or next(cache.folder().glob("uv-*/bin/uv"))
    checkov = [uv, "tool", "run", "--quiet", "--exclude-newer", CHECKOV_DAY, "--from", CHECKOV, "checkov"]
    # Nothing is asked of the Internet but the package itself.
    arguments = ["--directory", TERRAFORM, "--config-file", TERRAFORM / ".checkov.yaml", "--framework", "terraform"]
    done = subprocess.run(
        [*checkov, *arguments, "--skip-download", "--quiet", "--compact"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert re.search(r"Passed checks: [1-9]\d+, Failed checks: 0, Skipped checks: 0", done.stdout), done.stdout
