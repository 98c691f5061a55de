//! Which inputs a policy can look at, found by walking its expression tree.
//!
//! Everything that a policy may be made of is listed here. What is not listed is refused, so that a
//! later version of Cedar cannot bring an expression that looks at something this walk overlooks.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::text::MAX_PATTERN;

/// What of one item a policy's outcome can depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Inputs {
    pub(crate) tags: Tags,
    pub(crate) creator: bool,
    pub(crate) created_at: bool,
}

/// Which pairs of the encryption context.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Tags {
    /// Those with these names; their absence counts too.
    Named(BTreeSet<String>),
    /// Any: a name is worked out by the policy itself.
    All,
}

impl Default for Tags {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Inputs {
    /// Whether no two items of a request can be told apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.creator |= other.creator;
        self.created_at |= other.created_at;
        match (&mut self.tags, &other.tags) {
            (Tags::Named(mine), Tags::Named(theirs)) => mine.extend(theirs.iter().cloned()),
            (mine, _) => *mine = Tags::All,
        }
    }

    pub(crate) fn tags_are_none(&self) -> bool {
        self.tags == Tags::default()
    }

    fn tag(&mut self, name: &str) {
        if let Tags::Named(names) = &mut self.tags {
            names.insert(name.to_owned());
        }
    }
}

/// What a walk over a policy's conditions found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) inputs: Inputs,
    /// An upper bound of the work of one evaluation, in steps of about 100 ns.
    pub(crate) cost: u64,
}

/// Walks a policy in Cedar's JSON form.
///
/// # Errors
/// What the policy may not say, for people.
pub(crate) fn walk(policy: &Value) -> Result<Walked, String> {
    let mut walked = Walked { cost: 8, ..Walked::default() };
    for condition in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let body = condition.get("body").ok_or_else(|| unknown("a condition without a body"))?;
        walked.any(body)?;
    }
    Ok(walked)
}

fn unknown(what: &str) -> String {
    format!("policies here may not say this: {what}")
}

/// What the left side of `.`, `has`, `getTag` or `hasTag` is.
enum Base {
    Entity,
    Context,
    Encryption,
}

const TAGS: &str = "pairs of the encryption context are tags: ask hasTag and getTag";

const MUST_BE_ASKED: &str = "only principal, resource, context and context.encryption are known here; \
     attributes and tags of any other entity are not";

impl Walked {
    /// Any expression, in a place where its value cannot be looked into further.
    fn any(&mut self, expression: &Value) -> Result<(), String> {
        self.cost += 1;
        let (operator, operands) = operator(expression)?;
        match operator {
            "Value" => {
                self.value(operands);
                Ok(())
            }
            "Var" if operands == "context" => {
                Err("the context can only be looked at by name, as in context.time".into())
            }
            "Var" => Ok(()),
            "!" | "neg" | "isEmpty" => self.operands(operands, &["arg"]),
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "&&" | "||" | "+" | "-" | "*" | "contains"
            | "containsAll" | "containsAny" => self.operands(operands, &["left", "right"]),
            "if-then-else" => self.operands(operands, &["if", "then", "else"]),
            "in" => {
                self.own(field(operands, "left")?)?;
                self.operands(operands, &["right"])
            }
            "is" => match operands.get("in") {
                Some(group) => {
                    self.own(field(operands, "left")?)?;
                    self.any(group)
                }
                None => self.operands(operands, &["left"]),
            },
            "." => self.attribute(operands),
            // What is there at all depends on the action alone.
            "has" => match self.base(field(operands, "left")?)? {
                Base::Entity | Base::Context => {
                    self.cost += 1;
                    Ok(())
                }
                Base::Encryption => Err(TAGS.into()),
            },
            "getTag" | "hasTag" => self.tag(operands),
            "like" => {
                let left = field(operands, "left")?;
                self.like(left, field(operands, "pattern")?)?;
                self.any(left)
            }
            "Set" => operands
                .as_array()
                .ok_or_else(|| unknown(operator))?
                .iter()
                .try_for_each(|element| self.any(element)),
            // Methods of addresses take what they are called on as their first operand.
            "ip" | "isIpv4" | "isIpv6" | "isLoopback" | "isMulticast" | "isInRange" => {
                self.cost += 16;
                operands
                    .as_array()
                    .ok_or_else(|| unknown(operator))?
                    .iter()
                    .try_for_each(|argument| self.any(argument))
            }
            _ => Err(unknown(&format!("\"{operator}\""))),
        }
    }

    fn operands(&mut self, operands: &Value, names: &[&str]) -> Result<(), String> {
        names.iter().try_for_each(|name| self.any(field(operands, name)?))
    }

    /// A pattern whose only wildcard is its end takes a step for each character. Any other is tried at
    /// each place of the text: of the encryption context, which has at most 4 KiB, or of a name.
    fn like(&mut self, left: &Value, pattern: &Value) -> Result<(), String> {
        let pattern = pattern.as_array().ok_or_else(|| unknown("like"))?;
        let length = pattern.len() as u64;
        if length > MAX_PATTERN as u64 {
            return Err(format!(
                "a pattern of {length} characters; at most {MAX_PATTERN} are allowed"
            ));
        }
        let first = pattern.iter().position(|element| element == "Wildcard");
        let at_end = first.is_none_or(|first| first + 1 == pattern.len());
        let of_context = match operator(left)? {
            ("getTag", operands) => {
                matches!(self.base(field(operands, "left")?)?, Base::Encryption)
            }
            // The text may be worked out in any way.
            ("if-then-else", _) => true,
            _ => false,
        };
        self.cost += length
            * if at_end {
                1
            } else if of_context {
                64
            } else {
                4
            };
        Ok(())
    }

    fn value(&mut self, value: &Value) {
        self.cost += match value {
            Value::Array(elements) => 2 * elements.len() as u64,
            Value::String(text) => text.len() as u64 / 64,
            _ => 1,
        };
    }

    /// What `in` is asked of: of others than the caller and the key, the node knows no groups, and the
    /// answer would always be no.
    fn own(&mut self, expression: &Value) -> Result<(), String> {
        match operator(expression)? {
            ("Var", Value::String(name)) if name != "context" => {
                self.cost += 1;
                Ok(())
            }
            _ => Err("only principal, action and resource can be asked what they are in; compare \
                      others with =="
                .into()),
        }
    }

    fn attribute(&mut self, operands: &Value) -> Result<(), String> {
        self.cost += 1;
        let name = field(operands, "attr")?.as_str().ok_or_else(|| unknown("a.b in has"))?;
        match self.base(field(operands, "left")?)? {
            Base::Entity => Ok(()),
            Base::Encryption => Err(TAGS.into()),
            Base::Context => match name {
                "time" | "source" | "own_tenant" => Ok(()),
                "creator" => {
                    self.inputs.creator = true;
                    Ok(())
                }
                "created_at" => {
                    self.inputs.created_at = true;
                    Ok(())
                }
                "encryption" => {
                    Err("the encryption context can only be asked hasTag and getTag".into())
                }
                _ => Err(unknown(&format!("context.{name}"))),
            },
        }
    }

    fn tag(&mut self, operands: &Value) -> Result<(), String> {
        self.cost += 2;
        let name = field(operands, "right")?;
        if let Base::Encryption = self.base(field(operands, "left")?)? {
            match operator(name)? {
                ("Value", Value::String(name)) => self.inputs.tag(name),
                _ => self.inputs.tags = Tags::All,
            }
        }
        self.any(name)
    }

    fn base(&self, expression: &Value) -> Result<Base, String> {
        match operator(expression)? {
            ("Var", Value::String(name)) => match name.as_str() {
                "principal" | "resource" => Ok(Base::Entity),
                "context" => Ok(Base::Context),
                _ => Err(MUST_BE_ASKED.into()),
            },
            (".", operands) if field(operands, "attr")? == "encryption" => {
                match operator(field(operands, "left")?)? {
                    ("Var", Value::String(name)) if name == "context" => Ok(Base::Encryption),
                    _ => Err(MUST_BE_ASKED.into()),
                }
            }
            _ => Err(MUST_BE_ASKED.into()),
        }
    }
}

fn operator(expression: &Value) -> Result<(&str, &Value), String> {
    let map: Option<&Map<String, Value>> = expression.as_object().filter(|map| map.len() == 1);
    map.and_then(|map| map.iter().next())
        .map(|(operator, operands)| (operator.as_str(), operands))
        .ok_or_else(|| unknown("an expression of a later version"))
}

fn field<'v>(operands: &'v Value, name: &str) -> Result<&'v Value, String> {
    operands.get(name).ok_or_else(|| unknown(&format!("an operator without \"{name}\"")))
}
