/*
 * parking_private.h - what the files of parking share. Nobody else includes it.
 * The loop's thread only.
 */
#ifndef VAC_SERVER_PARKING_PRIVATE_H
#define VAC_SERVER_PARKING_PRIVATE_H

#include "server/state.h"

/* parking_ask.c */

/* Asks who is on the GPUs; vac_parking_looked() follows, even at once. */
void vac_parking_ask(struct vac_server *server);
/* Parks or resumes one; vac_parking_parked() or _resumed() follows, even at once. */
void vac_parking_hold(struct vac_server *server, struct vac_parked *parked,
		      enum vac_wire_hold_operation operation);

/* parking.c */

/* survey: NULL when nothing can be seen. */
void vac_parking_looked(struct vac_server *server, const struct vac_survey *survey);
/* why->code VAC_OK: it is done. Takes parked. */
void vac_parking_parked(struct vac_server *server, struct vac_parked *parked,
			const struct vac_error *why);
void vac_parking_resumed(struct vac_server *server, struct vac_parked *parked,
			 const struct vac_error *why);

/* NULL: it was not refused lately. */
const struct vac_parking_refusal *vac_parking_find_refusal(const struct vac_parking *parking,
							   const struct vac_holder *holder);

/* parking_why.c */

/* NULL: the settings name it; else why it stays, "is not of ...". */
const char *vac_parking_unnamed(const struct vac_parking *parking, const struct vac_holder *holder);
/* What it has on that device; 0: nothing, or not known. */
uint64_t vac_parking_bytes_on(const struct vac_holder *holder, const struct vac_survey *survey,
			      const char *uuid, bool *there);
/* Nobody could be chosen: once a load, when it has waited for a while, the log says why. */
void vac_parking_explain(const struct vac_server *server, struct vac_model *model,
			 const struct vac_survey *survey, const struct vac_holders *holders,
			 const char *uuid);

/* parking_model.c */

/* A worker of this server's. Takes parked. */
void vac_parking_moved(struct vac_server *server, struct vac_parked *parked,
		       const struct vac_error *why);
/* Begins with the next of the queue, if nothing is under way. */
void vac_parking_next(struct vac_server *server);

#endif
