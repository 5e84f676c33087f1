# The order dashboard and the engine behind it, as the README starts them: install, then npm start.
FROM node:24-slim
WORKDIR /app
RUN chown node:node /app
USER node
COPY --chown=node:node . .
RUN npm ci
# Of this user, so that a volume on it is too.
RUN mkdir -p .walcast
ENV WALCAST_HOST=0.0.0.0
EXPOSE 4437
CMD ["npm", "start"]
