//! `dess user`, `dess token`, `dess audit`: straight on the database, for root on the server.

use std::io::BufRead;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use dess_model::{Scope, Timestamp};
use dess_node::operations::{
    AuditQuery, AuditView, Operations, TokenCreate, TokenView, UserChange, UserCreate, UserView,
};
use dess_web::{ApiToken, PASSWORD_CHARS, password_hash, password_random};
use serde_json::json;

use super::confirmed;
use crate::arguments::{AuditArguments, AuditCommand, TokenCommand, UserCommand};
use crate::output::{self, ago, or_dash, say};

const DAY_MS: i64 = 24 * 3600 * 1000;

pub(super) async fn user(
    operations: &Operations,
    command: UserCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        UserCommand::List => list_users(&operations.user_list().await?, json)?,
        UserCommand::Add {
            name,
            role,
            password_stdin,
        } => {
            let password = Password::new(password_stdin)?;
            let user = UserCreate {
                name,
                role,
                password_hash: password.hash()?,
            };
            let user = operations.user_create(user).await?;
            password.tell(&user.name, json)?;
        }
        UserCommand::Set {
            name,
            role,
            disable,
            enable,
        } => {
            ensure!(
                role.is_some() || disable || enable,
                "nothing to change: give --role, --disable or --enable"
            );
            let change = UserChange {
                role,
                disabled: (disable || enable).then_some(disable),
            };
            let user = operations.user_set(&name, change).await?;
            list_users(&[user], json)?;
        }
        UserCommand::Remove { name, yes } => {
            if !confirmed(&format!("Remove the user {name}?"), yes)? {
                return Ok(ExitCode::FAILURE);
            }
            operations.user_remove(&name).await?;
        }
        UserCommand::ResetPassword {
            name,
            password_stdin,
        } => {
            let password = Password::new(password_stdin)?;
            let hash = password.hash()?;
            operations.user_password_set(&name, &hash, None).await?;
            password.tell(&name, json)?;
        }
        UserCommand::DisableTotp { name } => operations.second_factor_remove(&name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A new password: given, or made up and to be told.
struct Password {
    text: String,
    made_up: bool,
}

impl Password {
    fn new(from_stdin: bool) -> Result<Self> {
        if !from_stdin {
            return Ok(Self {
                text: password_random(),
                made_up: true,
            });
        }
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .context("cannot read the password from standard input")?;
        let text = line.trim_end_matches(['\r', '\n']).to_owned();
        let (least, most) = (PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
        ensure!(
            PASSWORD_CHARS.contains(&text.chars().count()),
            "a password has {least} to {most} characters"
        );
        Ok(Self {
            text,
            made_up: false,
        })
    }

    fn hash(&self) -> Result<String> {
        password_hash(&self.text).context("cannot hash the password")
    }

    fn tell(&self, user: &str, json: bool) -> Result<()> {
        let shown = self.made_up.then_some(self.text.as_str());
        if json {
            return output::json(&json!({ "user": user, "password": shown }));
        }
        match shown {
            Some(password) => say!("password of {user}: {password} (shown only now)"),
            None => say!("the password of {user} is set"),
        }
        Ok(())
    }
}

fn list_users(users: &[UserView], json: bool) -> Result<()> {
    if json {
        return output::json(&users);
    }
    let mut table = output::table(&["name", "role", "login", "second factor", "last login"]);
    for user in users {
        table.add_row([
            user.name.clone(),
            user.role.to_string(),
            if user.disabled { "blocked" } else { "allowed" }.to_owned(),
            if user.second_factor { "on" } else { "-" }.to_owned(),
            or_dash(user.last_login.map(|at| format!("{} ago", ago(at)))),
        ]);
    }
    say!("{table}");
    Ok(())
}

pub(super) async fn token(
    operations: &Operations,
    command: TokenCommand,
    json: bool,
) -> Result<ExitCode> {
    match command {
        TokenCommand::List { user } => {
            let tokens = operations.token_list(user.as_deref()).await?;
            list_tokens(&tokens, json)?;
        }
        TokenCommand::Create {
            name,
            user,
            scope,
            days,
        } => create_token(operations, name, user, (scope, days), json).await?,
        TokenCommand::Revoke { token } => {
            let tokens = operations.token_list(None).await?;
            let matching: Vec<_> = tokens
                .iter()
                .filter(|known| known.id == token || known.name == token)
                .collect();
            match matching.as_slice() {
                [] => bail!("there is no token \"{token}\""),
                [one] => operations.token_revoke(&one.id, None).await?,
                _ => bail!("several users have a token \"{token}\"; name it by its id"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_token(
    operations: &Operations,
    name: String,
    user: String,
    (scope, days): (Scope, Option<u16>),
    json: bool,
) -> Result<()> {
    let token = ApiToken::random();
    let expires = days.map(|days| Timestamp(Timestamp::now().0 + i64::from(days) * DAY_MS));
    let create = TokenCreate {
        user,
        name,
        scope,
        token_hash: token.hash(),
        expires,
    };
    let made = operations.token_create(create).await?;
    if json {
        return output::json(&json!({ "token": token.expose(), "id": made.id }));
    }
    say!("{} (shown only now)", token.expose());
    Ok(())
}

fn list_tokens(tokens: &[TokenView], json: bool) -> Result<()> {
    if json {
        return output::json(&tokens);
    }
    let mut table = output::table(&["name", "user", "scope", "ends", "last used", "id"]);
    let now = Timestamp::now();
    for token in tokens {
        let ends = token.expires.map(|end| match end > now {
            true => format!("in {}", output::duration(end.millis_since(now))),
            false => "expired".to_owned(),
        });
        table.add_row([
            token.name.clone(),
            token.user.clone(),
            token.scope.to_string(),
            or_dash(ends),
            or_dash(token.last_used.map(|at| format!("{} ago", ago(at)))),
            token.id.clone(),
        ]);
    }
    say!("{table}");
    Ok(())
}

pub(super) async fn audit(
    operations: &Operations,
    command: AuditCommand,
    json: bool,
) -> Result<ExitCode> {
    let AuditCommand::List(AuditArguments {
        actor,
        action,
        subject,
        days,
        limit,
    }) = command;
    let query = AuditQuery {
        actor,
        action,
        subject,
        since: days.map(|days| Timestamp(Timestamp::now().0 - i64::from(days) * DAY_MS)),
        before: None,
    };
    let lines = operations.audit_find(&query, limit).await?;
    list_lines(&lines, json)?;
    Ok(ExitCode::SUCCESS)
}

fn list_lines(lines: &[AuditView], json: bool) -> Result<()> {
    if json {
        return output::json(&lines);
    }
    let mut table = output::table(&["ago", "who", "from", "action", "subject", "details"]);
    for line in lines {
        table.add_row([
            ago(line.at),
            line.actor.clone(),
            line.origin.clone(),
            line.action.clone(),
            line.subject.clone(),
            line.details.to_string(),
        ]);
    }
    say!("{table}");
    Ok(())
}
