-- Auth's tables as SQLAlchemy makes them in SQLite.
CREATE TABLE auth_group (
	id INTEGER NOT NULL,
	creator VARCHAR(64) NOT NULL,
	role VARCHAR(64) NOT NULL,
	description VARCHAR(512),
	is_active BOOLEAN,
	date_created DATETIME,
	modified DATETIME,
	PRIMARY KEY (id),
	CONSTRAINT uq_group_creator_role UNIQUE (creator, role)
);
CREATE TABLE auth_permission (
	id INTEGER NOT NULL,
	creator VARCHAR(64),
	name VARCHAR(512),
	is_active BOOLEAN,
	date_created DATETIME,
	modified DATETIME,
	PRIMARY KEY (id),
	CONSTRAINT uq_permission_creator_name UNIQUE (creator, name)
);
CREATE TABLE auth_membership (
	id INTEGER NOT NULL,
	creator VARCHAR(64),
	user VARCHAR(512),
	is_active BOOLEAN,
	date_created DATETIME,
	modified DATETIME,
	PRIMARY KEY (id),
	CONSTRAINT uq_membership_creator_user UNIQUE (creator, user)
);
CREATE TABLE membership_groups (
	membership_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (membership_id, group_id),
	FOREIGN KEY(membership_id) REFERENCES auth_membership (id),
	FOREIGN KEY(group_id) REFERENCES auth_group (id)
);
CREATE TABLE permission_groups (
	permission_id INTEGER NOT NULL,
	group_id INTEGER NOT NULL,
	PRIMARY KEY (permission_id, group_id),
	FOREIGN KEY(permission_id) REFERENCES auth_permission (id),
	FOREIGN KEY(group_id) REFERENCES auth_group (id)
);
CREATE TABLE auth_api_key (
	id INTEGER NOT NULL,
	key_id VARCHAR(36) NOT NULL,
	creator VARCHAR(64) NOT NULL,
	user VARCHAR(512) NOT NULL,
	key_hash VARCHAR(64) NOT NULL,
	key_prefix VARCHAR(16),
	label VARCHAR(512),
	is_active BOOLEAN,
	revoked_at DATETIME,
	expires_at DATETIME,
	last_used_at DATETIME,
	date_created DATETIME,
	PRIMARY KEY (id),
	UNIQUE (key_id),
	UNIQUE (key_hash)
);
CREATE TABLE auth_tenant_settings (
	id INTEGER NOT NULL,
	creator VARCHAR(64) NOT NULL,
	strict_users BOOLEAN,
	PRIMARY KEY (id),
	UNIQUE (creator)
);
CREATE TABLE audit_log (
	id INTEGER NOT NULL,
	timestamp DATETIME NOT NULL,
	client_id VARCHAR(64),
	user VARCHAR(255),
	action VARCHAR(64) NOT NULL,
	resource VARCHAR(255),
	details TEXT,
	ip_address VARCHAR(64),
	user_agent TEXT,
	success INTEGER,
	PRIMARY KEY (id)
);
CREATE INDEX ix_audit_log_timestamp ON audit_log (timestamp);
