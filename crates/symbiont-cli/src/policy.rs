//! `symbiont policy`: what the policy blocks of a program become.
//!
//! Rules are compiled as the runtime compiles them, and shown in words or as the text of the Cedar
//! policy language that the engine evaluates.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};
use symbiont_dsl::definition::{SourceKind, check, classify};
use symbiont_dsl::diagnostic::{Severity, line_and_column, render};
use symbiont_dsl::hir::{BlockDecl, PolicyBlock, Program};
use symbiont_dsl::policy::compile;
use symbiont_policy::{PolicySet, when};
use symbiont_runtime::{Obligation, PolicyEffect, PolicyRule};

use crate::run::read;
use crate::screen::{self, BAD, BOLD, CARE, DIM, GOOD, NAME, styled};
use crate::{Exit, Failure, Output, text};

/// Shows what policy blocks become.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
}

/// Shows the rules that a program's policy blocks become.
///
/// Deny beats approval beats allow. An agent that has any policy is denied what no rule allows.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  symbiont policy show agents/lockfile_audit.symbi
  symbiont policy show --cedar agents/lockfile_audit.symbi

Exit codes:
  0  done; warnings are told
  1  the program has errors
  2  the file can't be read, or is no program")]
struct Show {
    /// The program, a `.symbi` file.
    file: PathBuf,
    /// Show what the engine evaluates, in the Cedar policy language. A satisfied policy says that its
    /// rule matches; what follows from that is in the annotation `@effect`.
    #[arg(long)]
    cedar: bool,
    /// `text` for people; `json` for an object with `file` and `policies`.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A policy block, and who is under it.
struct Shown {
    name: String,
    /// `agent a`, `channel c` or, of a shared policy, the agents that use it.
    of: Vec<String>,
    line: usize,
    rules: Vec<ShownRule>,
}

struct ShownRule {
    rule: PolicyRule,
    line: usize,
    cedar: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let Command::Show(arguments) = &arguments.command;
    let source = read(&arguments.file)?;
    let name = text::line(&arguments.file.display().to_string());
    if classify(&source) != SourceKind::Program {
        return Err(Failure::usage(format!("`{name}` is no program, and has no policies")));
    }
    let checked = check(&source);
    let Some(program) = checked.program else {
        let errors: Vec<_> = checked
            .diagnostics
            .into_iter()
            .filter(|found| found.severity == Severity::Error)
            .collect();
        screen::tell(&render(&errors, &source, &name, screen::has_colours()));
        return Ok(Exit::Failed);
    };
    let mut policies = Vec::new();
    for (block, of) in blocks(&program.hir) {
        let (shown, warnings) = shown(block, &program.hir, of, &source)?;
        screen::tell(&render(&warnings, &source, &name, screen::has_colours()));
        policies.push(shown);
    }
    match (arguments.output, arguments.cedar) {
        (Output::Json, _) => {
            let policies: Vec<Value> = policies.iter().map(Shown::json).collect();
            let json = json!({ "file": name, "policies": policies });
            screen::result(format!("{json}\n").as_bytes())?;
        }
        (Output::Text, true) => {
            let texts: Vec<String> = policies.iter().map(|policy| policy.cedar(&name)).collect();
            screen::report(&texts.join("\n"))?;
        }
        (Output::Text, false) => {
            let texts: Vec<String> = policies.iter().map(|policy| policy.words(&name)).collect();
            screen::report(&texts.join("\n"))?;
        }
    }
    if policies.is_empty() {
        screen::tell(&format!(
            "{}: `{name}` has no policies: its own agents may do what other policies allow\n",
            styled(CARE, "note")
        ));
    }
    Ok(Exit::Success)
}

/// The policy blocks of a program with who is under each: shared ones, agents' own, channels'.
fn blocks(program: &Program) -> Vec<(&PolicyBlock, Vec<String>)> {
    let shared = program.policies.iter().map(|block| {
        let users = program.agents.iter().filter(|agent| {
            agent.uses.iter().any(|name| name.node == block.name.node)
                && !agent.policies.iter().any(|own| own.name.node == block.name.node)
        });
        (block, users.map(|agent| format!("agent {}", agent.name.node)).collect())
    });
    let own = program.agents.iter().flat_map(|agent| {
        let of = format!("agent {}", agent.name.node);
        agent.policies.iter().map(move |block| (block, vec![of.clone()]))
    });
    let channels = program.blocks.iter().flat_map(|channel: &BlockDecl| {
        let of = format!("channel {}", channel.name.node);
        channel.policies.iter().map(move |block| (block, vec![of.clone()]))
    });
    shared.chain(own).chain(channels).collect()
}

fn shown(
    block: &PolicyBlock,
    program: &Program,
    of: Vec<String>,
    source: &str,
) -> Result<(Shown, Vec<symbiont_dsl::diagnostic::Diagnostic>), Failure> {
    let (policy, warnings) = compile(block, program, source);
    let set = PolicySet::compile(std::slice::from_ref(&policy)).map_err(|issues| {
        let issues: Vec<String> = issues.into_iter().map(|issue| issue.message).collect();
        Failure::failed(format!("the policy `{}` is refused: {}", policy.id, issues.join("; ")))
    })?;
    let cedar_of = |id: &str| set.cedar_rules().find(|(rule, _)| rule.id == id);
    let line = |offset| line_and_column(source, offset).0;
    let rules = policy.rules.iter().filter_map(|rule| {
        // `deny-2.1` came of the second rule.
        let number = rule.id.split_once('-')?.1.split('.').next()?.parse::<usize>().ok()?;
        let written = block.rules.get(number.checked_sub(1)?)?;
        let (_, cedar) = cedar_of(&rule.id)?;
        Some(ShownRule { rule: rule.clone(), line: line(written.span.start), cedar })
    });
    let rules = rules.collect();
    let line = line(block.name.span.start);
    Ok((Shown { name: policy.id, of, line, rules }, warnings))
}

impl Shown {
    fn title(&self, file: &str) -> String {
        let of = match self.of.as_slice() {
            [] => "of nobody".to_owned(),
            some => format!("of {}", some.join(", ")),
        };
        text::line(&format!("policy {} {of} ({file}:{})", self.name, self.line))
    }

    fn words(&self, file: &str) -> String {
        let mut out = styled(BOLD, &self.title(file)) + "\n";
        for ShownRule { rule, line, .. } in &self.rules {
            let (style, verb) = match &rule.effect {
                PolicyEffect::Allow => (GOOD, "allows"),
                PolicyEffect::Deny => (BAD, "denies"),
                PolicyEffect::RequireApproval { .. } => (CARE, "asks for approval of"),
                PolicyEffect::Audit => (NAME, "marks"),
                PolicyEffect::Shadow(_) => (DIM, "would decide"),
            };
            out += &format!(
                "\n  {}  {}\n",
                styled(NAME, &rule.id),
                styled(DIM, &format!("line {line}: {}", text::line(&rule.reason)))
            );
            let operations: Vec<String> =
                rule.operations.iter().map(|name| operation_words(name)).collect();
            out += &format!("    {} {}\n", styled(style, verb), operations.join(", "));
            let when = when(rule);
            if !when.is_empty() {
                out += &format!("    when {when}\n");
            }
            for duty in duties(rule) {
                out += &format!("    {}\n", text::line(&duty));
            }
        }
        if self.rules.is_empty() {
            out += "  no rules: it allows nothing\n";
        }
        out
    }

    fn cedar(&self, file: &str) -> String {
        let mut out = format!("// {}\n", self.title(file));
        // Who loads this elsewhere must not take a denial for a permission.
        out += "// A rule that matches has the effect of its @effect, whatever word begins it: the engine \
                finds\n// matches, and deny beats approval beats allow.\n";
        for ShownRule { rule, line, cedar } in &self.rules {
            let source = text::line(&format!("{file}:{line}: {}", rule.reason));
            out += &format!("\n// {source}\n{}\n", text::lines(&laid_out(cedar)));
        }
        out
    }

    fn json(&self) -> Value {
        let rules = self.rules.iter().map(|ShownRule { rule, line, cedar }| {
            json!({
                "id": rule.id,
                "line": line,
                "source": rule.reason,
                "effect": match &rule.effect {
                    PolicyEffect::Allow => "allow",
                    PolicyEffect::Deny => "deny",
                    PolicyEffect::RequireApproval { .. } => "require approval",
                    PolicyEffect::Audit => "audit",
                    PolicyEffect::Shadow(_) => "shadow",
                },
                "operations": rule.operations,
                "when": when(rule),
                "duties": duties(rule),
                "cedar": cedar,
            })
        });
        json!({ "name": self.name, "of": self.of, "line": self.line, "rules": rules.collect::<Vec<_>>() })
    }
}

/// The same policy with its conditions on lines of their own, broken where the outermost ones join.
/// Only layout is added, and none within quotes.
fn laid_out(cedar: &str) -> String {
    let mut out = String::with_capacity(cedar.len() + 64);
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_i32);
    for c in cedar.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        match c {
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if c == '}' && depth == 0 {
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out.push(c);
        // The space that follows is the rest of the margin.
        if depth == 1 && ["when {", "&&", "||"].iter().any(|end| out.ends_with(end)) {
            out.push_str("\n ");
        }
    }
    out
}

fn operation_words(glob: &str) -> String {
    match glob {
        "*" => "everything".to_owned(),
        other => format!("`{}`", text::line(other)),
    }
}

/// What a rule demands along with what it says.
fn duties(rule: &PolicyRule) -> Vec<String> {
    let mut duties = Vec::new();
    if let PolicyEffect::RequireApproval { approvers, quorum, ttl } = &rule.effect {
        let who = match approvers.as_slice() {
            [] => "anyone".to_owned(),
            some => some.join(", "),
        };
        duties.push(format!("approved by {quorum} of {who} within {}", text::duration(*ttl)));
    }
    duties.extend(rule.obligations.iter().map(|obligation| match obligation {
        Obligation::RateLimit { count, per } => {
            format!("at most {count} in {}", text::duration(*per))
        }
        Obligation::Timeout(time) => format!("within {}", text::duration(*time)),
        Obligation::LogLevel(level) => format!("recorded at `{level}`"),
        Obligation::Redact(fields) => format!("without showing {}", fields.join(", ")),
        Obligation::Notify(channel) => format!("`{channel}` is told"),
    }));
    duties
}

#[cfg(test)]
mod tests {
    use super::laid_out;

    #[test]
    fn layout_adds_nothing_but_space() {
        let check = |cedar: &str, want: &str| {
            let laid = laid_out(cedar);
            assert_eq!(laid, want);
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeezed(&laid), squeezed(cedar));
        };
        check("permit(principal, action, resource);", "permit(principal, action, resource);");
        check(
            r#"permit(principal, action, resource) when { (a && b) && ({text: "}"} == "\\\" && ") || c };"#,
            "permit(principal, action, resource) when {\n  (a && b) &&\n  ({text: \"}\"} == \"\\\\\\\" && \") ||\n  c\n};",
        );
    }
}
