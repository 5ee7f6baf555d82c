//! Users and their recovery codes.

use dess_model::{Role, Timestamp};

use crate::row::{Columns, Row};
use crate::statement::{Statement, query};
use crate::{StoreError, Tx};

/// A user. Without `Debug`: it holds the key of the second factor.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Name, unique.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// True if the user may not log in now.
    pub disabled: bool,
    /// Password hash in PHC string form.
    pub password_hash: String,
    /// Key of the second factor in base32; none without one.
    pub totp_secret: Option<String>,
    /// The last time step whose code was used.
    pub totp_step: Option<i64>,
    /// When the user was made.
    pub created: Timestamp,
    /// The last good login.
    pub last_login: Option<Timestamp>,
    /// The network that it came from.
    pub last_login_from: Option<String>,
}

impl UserRecord {
    fn of(row: &Row) -> Result<Self, StoreError> {
        let row = Columns(row);
        Ok(Self {
            name: row.text("name")?,
            role: row.named("role")?,
            disabled: row.flag("disabled")?,
            password_hash: row.text("password_hash")?,
            totp_secret: row.text_opt("totp_secret")?,
            totp_step: row.number_opt("totp_step")?,
            created: row.time("created_at")?,
            last_login: row.time_opt("last_login_at")?,
            last_login_from: row.text_opt("last_login_from")?,
        })
    }
}

impl Tx {
    /// How many users there are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_count(&mut self) -> Result<u64, StoreError> {
        let statement = query("SELECT COUNT(*) AS users FROM users");
        let row = self.fetch_optional("count users", statement).await?;
        row.map_or(Ok(0), |row| Columns(&row).number("users"))
    }

    /// All users, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_list(&mut self) -> Result<Vec<UserRecord>, StoreError> {
        let statement = query(
            "SELECT name, role, disabled, password_hash, totp_secret, totp_step, created_at, \
             last_login_at, last_login_from FROM users ORDER BY name",
        );
        let rows = self.fetch_all("list users", statement).await?;
        rows.iter().map(UserRecord::of).collect()
    }

    /// One user.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn user_fetch(&mut self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let statement = query(
            "SELECT name, role, disabled, password_hash, totp_secret, totp_step, created_at, \
             last_login_at, last_login_from FROM users WHERE name = ?",
        )
        .bind(name.to_owned());
        let row = self.fetch_optional("read a user", statement).await?;
        row.as_ref().map(UserRecord::of).transpose()
    }

    /// Adds a user.
    ///
    /// # Errors
    /// If the name is taken, or the database cannot be written.
    pub async fn user_insert(&mut self, user: &UserRecord) -> Result<(), StoreError> {
        let statement = query(
            "INSERT INTO users (role, disabled, password_hash, totp_secret, totp_step, \
             last_login_at, last_login_from, name, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let statement = bind_values(statement, user).bind(user.created.0);
        self.execute("add a user", statement).await.map(drop)
    }

    /// Writes everything of a user but the name; false if there is no such user.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn user_update(&mut self, user: &UserRecord) -> Result<bool, StoreError> {
        let statement = query(
            "UPDATE users SET role = ?, disabled = ?, password_hash = ?, totp_secret = ?, \
             totp_step = ?, last_login_at = ?, last_login_from = ? WHERE name = ?",
        );
        let changed = self
            .execute("change a user", bind_values(statement, user))
            .await?;
        Ok(changed > 0)
    }

    /// Removes a user with everything of that user; false if there is none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn user_delete(&mut self, name: &str) -> Result<bool, StoreError> {
        self.session_delete_of(name).await?;
        self.recovery_codes_replace(name, &[]).await?;
        let tokens = query("DELETE FROM api_tokens WHERE user_name = ?").bind(name.to_owned());
        self.execute("remove a user's tokens", tokens).await?;
        let statement = query("DELETE FROM users WHERE name = ?").bind(name.to_owned());
        Ok(self.execute("remove a user", statement).await? > 0)
    }

    /// Replaces a user's recovery codes.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn recovery_codes_replace(
        &mut self,
        user: &str,
        code_hashes: &[String],
    ) -> Result<(), StoreError> {
        let statement = query("DELETE FROM recovery_codes WHERE user_name = ?");
        self.execute("remove recovery codes", statement.bind(user.to_owned()))
            .await?;
        for hash in code_hashes {
            let statement =
                query("INSERT INTO recovery_codes (user_name, code_hash) VALUES (?, ?)")
                    .bind(user.to_owned())
                    .bind(hash.clone());
            self.execute("keep a recovery code", statement).await?;
        }
        Ok(())
    }

    /// Takes a recovery code out of use; false if it was none.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn recovery_code_delete(
        &mut self,
        user: &str,
        code_hash: &str,
    ) -> Result<bool, StoreError> {
        let statement = query("DELETE FROM recovery_codes WHERE user_name = ? AND code_hash = ?")
            .bind(user.to_owned())
            .bind(code_hash.to_owned());
        Ok(self.execute("use a recovery code", statement).await? > 0)
    }

    /// How many recovery codes a user has left.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn recovery_code_count(&mut self, user: &str) -> Result<u64, StoreError> {
        let statement = query("SELECT COUNT(*) AS codes FROM recovery_codes WHERE user_name = ?")
            .bind(user.to_owned());
        let row = self
            .fetch_optional("count recovery codes", statement)
            .await?;
        row.map_or(Ok(0), |row| Columns(&row).number("codes"))
    }
}

/// All that may change, then the name.
fn bind_values(statement: Statement, user: &UserRecord) -> Statement {
    statement
        .bind(user.role.as_str())
        .bind(i64::from(user.disabled))
        .bind(user.password_hash.clone())
        .bind(user.totp_secret.clone())
        .bind(user.totp_step)
        .bind(user.last_login.map(|at| at.0))
        .bind(user.last_login_from.clone())
        .bind(user.name.clone())
}
